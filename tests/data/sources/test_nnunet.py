import json

import pytest

import mrigmm
from mrigmm.errors import InputError

from .conftest import BLOOD, EDEMA, MYOCARDIUM, SCAR, read

TOP = "Dataset501_Infarct/"
SECOND = {
    "channel_names": {"0": "cine", "1": "DE"},
    "labels": {"background": 0, "LV": 1, "MYO": 2, "infarct": 3, "no-reflow": 4},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
FIRST = {
    "modality": {"0": "LGE", "1": "T2w"},
    "labels": {"0": "background", "1": "LV blood pool", "2": "myocardium", "3": "oedema", "4": "scar"},
    "numTraining": 1,
    "training": [],
    "test": [],
}


def data_set(tree, content, sequences):
    tree.text(TOP + "dataset.json", json.dumps(content))
    for channel, sequence in enumerate(sequences):
        tree.image(f"{TOP}imagesTr/case_2_{channel:04d}.nii.gz", sequence=sequence)
        tree.image(f"{TOP}imagesTs/case_10_{channel:04d}.nii.gz", sequence=sequence)
    tree.label(f"{TOP}labelsTr/case_2.nii.gz", ids=(0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("content", "sequences", "expected"),
    [
        (SECOND, ("bSSFP", "LGE"), {"blood": BLOOD, "myocardium": MYOCARDIUM, "scar": EDEMA + SCAR}),
        (FIRST, ("LGE", "T2"), {"blood": BLOOD, "myocardium": MYOCARDIUM, "edema": EDEMA, "scar": SCAR}),
    ],
    ids=["version 2", "version 1"],
)
def test_both_versions(tree, content, sequences, expected):
    data_set(tree, content, sequences)
    found = read(mrigmm.manifest("nnunet", tree.folder, tree.folder / "m.json", region_from_labels="lv"))
    assert found.splits == {"training": ["case_2"], "test": ["case_10"]}
    assert found.counts == {"case_2": expected}
    assert list(found.studies["case_2"].images) == list(sequences)


def test_names_of_ones_own(tree):
    content = {
        "channel_names": {"0": "PSIR", "1": "T1map"},
        "labels": {"background": 0, "pool": 1, "muscle": 2, "scar": 3, "other": 4},
    }
    data_set(tree, content, ("LGE", "T2"))
    rename = {"PSIR": "LGE", "pool": "blood", "muscle": "myocardium", "other": "background"}
    found = read(
        mrigmm.manifest("nnunet", tree.folder, tree.folder / "m.json", region_from_labels="lv", rename=rename)
    )
    assert found.counts == {"case_2": {"blood": BLOOD, "myocardium": MYOCARDIUM, "scar": EDEMA}}
    assert found.notes[0].startswith("the channel 'T1map' keeps its name")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"rename": {"LEG": "LGE"}}, "--rename: there is no 'LEG' in the folder"),
        ({"channel_names": {"0": "DE", "1": "LGE"}}, {}, "two channels have one name"),
        ({"channel_names": {"0": "DE"}}, {}, "a channel that dataset.json does not name"),
        ({"labels": {"wall": [1, 2], "scar": [2]}}, {}, "the labels are regions that overlap"),
        ({"channel_names": None}, {}, "the dataset.json cannot be used"),
        ({"file_ending": ".png"}, {}, "the dataset.json cannot be used"),
        ({"labels": 3}, {}, "the dataset.json cannot be used"),
    ],
)
def test_what_cannot_be_used(tree, change, options, message):
    data_set(tree, {**SECOND, **change}, ("bSSFP", "LGE"))
    with pytest.raises(InputError, match=message):
        mrigmm.manifest("nnunet", tree.folder, tree.folder / "m.json", **options)


def test_overlapping_regions_with_ids_by_hand(tree):
    data_set(tree, {**SECOND, "labels": {"wall": [2, 3], "scar": [3]}}, ("bSSFP", "LGE"))
    labels = "blood=1,myocardium=2,scar=3+4"
    found = read(
        mrigmm.manifest("nnunet", tree.folder, tree.folder / "m.json", region_from_labels="lv", labels=labels)
    )
    assert found.counts["case_2"] == {"blood": BLOOD, "myocardium": MYOCARDIUM, "scar": EDEMA + SCAR}


def test_the_folder_of_several_data_sets(tree):
    for name in ("Dataset501_A", "Dataset502_B"):
        tree.text(f"{name}/dataset.json", "{}")
    with pytest.raises(InputError, match="not one nnU-Net data set") as caught:
        mrigmm.manifest("nnunet", tree.folder, tree.folder / "m.json")
    assert caught.value.problems[0].got == "Dataset501_A/dataset.json, Dataset502_B/dataset.json"


def test_the_data_sets_own_description_is_not_replaced(tree):
    data_set(tree, SECOND, ("bSSFP", "LGE"))
    target = tree.folder / TOP / "dataset.json"
    with pytest.raises(InputError, match="would replace an input"):
        mrigmm.manifest("nnunet", target.parent, target, overwrite=True)
    assert json.loads(target.read_text()) == SECOND
