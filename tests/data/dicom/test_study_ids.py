import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrigmm.data.dicom.drawn import safe_name, study_ids
from mrigmm.data.dicom.series import DicomStudy
from mrigmm.data.manifest import check_study_id


def ids(*patients, pseudonyms=False):
    return study_ids([DicomStudy(p, f"1.{k}", ()) for k, p in enumerate(patients)], pseudonyms=pseudonyms)


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        ("P-01", "P-01"),
        ("../../x", "x"),
        ("/etc/passwd", "etc_passwd"),
        ("..", "patient"),
        ("", "patient"),
        ("Müller^Jürgen", "Muller_Jurgen"),
        ("患者", "patient"),
        ("a\\b:c*?<x>|", "a_b_c_x"),
        ("a" * 200, "a" * 60),
        ("lpt1", "lpt1_"),
    ],
)
def test_safe_names(patient, expected):
    assert safe_name(patient) == expected


@given(st.lists(st.text(max_size=8), max_size=12))
def test_ids_are_good_and_all_different(patients):
    made = ids(*patients)
    assert [check_study_id(study_id) for study_id in made] == [None] * len(patients)
    assert len({study_id.casefold() for study_id in made}) == len(patients)


def test_several_studies_of_a_patient():
    assert ids("P1", "P1", "p1") == ["P1", "P1-2", "p1-3"]
    # The first patient's second study does not take the name of another patient.
    assert ids("P1", "P1", "P1-2") == ["P1", "P1-3", "P1-2"]


def test_pseudonyms():
    assert ids("Smith", "Smith", "Jones", pseudonyms=True) == ["study001", "study002", "study003"]
