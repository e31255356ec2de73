import pytest

from mrigmm.data.quality import unknown_classes, unknown_sequences


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("oedema", "edema"),
        ("Infarct", "scar"),
        ("fibrosis", "scar"),
        ("MYO", "myocardium"),
        ("miocardium", "myocardium"),
        ("LV_blood-pool", "blood"),
        ("Scar", "scar"),
    ],
)
def test_a_synonym_is_asked_about(name, meant):
    (found,) = unknown_classes(["background", name])
    assert found.severity == "warning"
    assert found.what.endswith(f"did you mean {meant}?")


def test_our_names_and_those_of_other_organs_are_left_alone():
    ours = ["background", "blood", "myocardium", "edema", "scar", "rv_blood", "mvo"]
    assert not [*unknown_classes(ours)]
    assert not [*unknown_classes(["background", "grey matter", "white matter", "csf", "lesion"])]
    assert not [*unknown_classes(["scar", "no reflow"])]  # a part of a class that is there


def test_sequences():
    assert not [*unknown_sequences(["LGE", "T2", "bSSFP", "flair", "t1"])]
    assert not [*unknown_sequences(["bSSFP", "cine"])]  # both may be there
    (found,) = unknown_sequences(["LGE", "SSFP"])
    assert found.what == "the sequence 'SSFP' is not known by this name: did you mean bSSFP?"
