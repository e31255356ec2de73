from dataclasses import replace

from mrigmm.data.dicom import doubts
from mrigmm.data.dicom.recognise import choose
from mrigmm.data.dicom.series import DicomStudy

from .test_recognise import TILTED, series


def test_a_sequence_that_is_tilted_to_the_lge():
    plan = {"LGE": [series("LGE")], "T2": [series("t2", uid="1.7", **TILTED)], "bSSFP": [series("cine")]}
    (note,) = doubts.of_sequences(plan)
    assert note.startswith("T2: series 7 't2' is tilted by 60 degrees to the LGE")
    assert doubts.of_sequences({"T2": plan["T2"], "bSSFP": plan["bSSFP"]}) == []


def with_header(part, **changes):
    header = replace(part.header, **changes)
    return replace(part, slices=((replace(part.first, header=header),),))


def test_sequences_of_different_frames_of_reference():
    here, there, nowhere = (with_header(series("x"), frame_of_reference=uid) for uid in ("1.2", "1.3", ""))
    (note,) = doubts.of_sequences({"LGE": [here], "T2": [there], "bSSFP": [nowhere]})
    assert note.startswith("LGE and T2 have different FrameOfReferenceUIDs")
    assert doubts.of_sequences({"LGE": [here], "T2": [here], "bSSFP": [nowhere]}) == []


def test_a_missing_sequence_names_the_series_that_no_rule_knows():
    parts = [series("T2 sax", uid="1.1"), series("heart x", uid="1.2"), series("LGE_4ch", uid="1.3")]
    parts += [series("localizer", uid="1.4"), series("cine sax", uid="1.5")]
    study = DicomStudy("P", "1", tuple(parts))
    assert doubts.of_missing_sequences(study, choose(parts)[0]) == [
        "no LGE is recognised; it may be one of these, which are not: 2 'heart x', 3 'LGE_4ch'"
    ]
    complete = DicomStudy("P", "1", (*parts, series("LGE sax", uid="1.6")))
    assert doubts.of_missing_sequences(complete, choose(complete.parts)[0]) == []


def test_kinds_of_lge_side_by_side():
    (problem,) = doubts.of_cohort(["magnitude", "PSIR", "magnitude"])
    assert problem.what.startswith("LGE: 2 magnitude, 1 phase-sensitive;")
    (problem,) = doubts.of_cohort(["phase", "magnitude"])  # a user's map may name any
    assert problem.what.startswith("LGE: 1 phase, 1 magnitude;")
    assert doubts.of_cohort(["PSIR", "PSIR"]) == doubts.of_cohort([]) == []


def study(patient, person=("", "")):
    return DicomStudy(patient, "1", (with_header(series("x"), person=person),))


def test_patients_that_cannot_be_told_apart():
    (problem,) = doubts.of_patients([("a", study("")), ("b", study("")), ("c", study("P"))])
    assert problem.what.startswith("2 studies have no PatientID (a, b)")
    assert doubts.of_patients([("a", study("")), ("c", study("P"))]) == []


def test_one_patient_id_of_two_people():
    jane, born_later = ("doe^jane", "1950"), ("doe^jane", "1951")
    (problem,) = doubts.of_patients([("a", study("P", jane)), ("b", study("P", born_later))])
    assert problem.what.startswith("one PatientID with different names or dates of birth (a, b)")
    assert "jane" not in str(problem)
    same = [("a", study("P", jane)), ("b", study("P", ("", "1950"))), ("c", study("Q", born_later))]
    assert doubts.of_patients(same) == []


def test_a_patient_id_that_most_studies_share():
    anonymous = [(name, study("ANON")) for name in "abc"]
    (problem,) = doubts.of_patients([*anonymous, ("d", study("P"))])
    assert problem.what.startswith("3 of 4 studies have the same PatientID (a, b, c)")
    assert doubts.of_patients([*anonymous, *((name, study(name)) for name in "xyz")]) == []
