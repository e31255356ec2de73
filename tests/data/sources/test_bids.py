import pytest

import mrigmm
from mrigmm.errors import InputError

from .conftest import BLOOD, EDEMA, MYOCARDIUM, SCAR, read

IDS = (0, 1, 2, 3, 4, 7)
TABLE = "index\tname\n0\tbackground\n1\tLV\n2\tMyocardium\n3\tEdema\n4\tInfarct\n7\tRV\n"
COUNTS = {"blood": BLOOD, "myocardium": MYOCARDIUM, "edema": EDEMA, "scar": SCAR}
LABELS = "derivatives/manual"


def data_set(tree):
    for session in ("ses-1", "ses-2"):
        stem = f"sub-01/{session}/anat/sub-01_{session}"
        tree.image(f"{stem}_LGE.nii.gz")
        tree.image(f"{stem}_T2w.nii.gz", sequence="T2")
        tree.label(f"{LABELS}/{stem}_desc-manual_dseg.nii.gz", ids=IDS)
    tree.image("sub-02/anat/sub-02_acq-sa_bssfp.nii.gz", sequence="bSSFP")
    tree.image("sub-02/anat/sub-02_T1w.nii.gz", "sub-02/anat/sub-02_acq-psir_T1w.nii.gz")
    tree.label(f"{LABELS}/sub-02/anat/sub-02_dseg.nii.gz", ids=IDS)
    tree.label(f"{LABELS}/sub-02/anat/sub-02_label-LV_mask.nii.gz", ids=(0, 1, 1, 1, 1))
    tree.label(f"{LABELS}/sub-02/anat/sub-02_label-brain_mask.nii.gz", ids=(1, 1, 1, 1, 1))
    tree.text("dataset_description.json", "{}")


def test_sessions_and_derivatives(tree):
    data_set(tree)
    tree.text(f"{LABELS}/dseg.tsv", TABLE)
    found = read(mrigmm.manifest("bids", tree.folder, tree.folder / "m.json", region_from_labels="lv"))
    assert found.splits == {"training": ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]}
    assert found.counts == dict.fromkeys(found.studies, COUNTS)
    assert list(found.studies["sub-01_ses-1"].images) == ["LGE", "T2"]
    assert list(found.studies["sub-02"].images) == ["bSSFP"]
    assert found.studies["sub-01_ses-1"].region.kind == "lv"
    assert found.studies["sub-02"].region.name == "sub-02_label-LV_mask.nii.gz"  # a file goes first


def test_the_longest_ending_names_the_sequence(tree):
    data_set(tree)
    found = read(
        mrigmm.manifest(
            "bids",
            tree.folder,
            tree.folder / "m.json",
            region_from_labels="lv",
            labels="blood=1,myocardium=2,edema=3,scar=4,rv_blood=7",
            rename={"acq-psir_T1w": "LGE", "T1w": "T1"},
        )
    )
    images = {name: path.name for name, path in found.studies["sub-02"].images.items()}
    assert images == {
        "LGE": "sub-02_acq-psir_T1w.nii.gz",
        "bSSFP": "sub-02_acq-sa_bssfp.nii.gz",
        "T1": "sub-02_T1w.nii.gz",
    }
    assert found.counts["sub-02"] == COUNTS


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "the label ids of this cohort are not known"),
        ("index,name\n0,background\n", "the table of label ids cannot be read"),
        ("index\tname\none\tLV\n", "the table of label ids cannot be read"),
    ],
)
def test_label_ids_are_never_guessed(tree, table, message):
    data_set(tree)
    if table:
        tree.text(f"{LABELS}/dseg.tsv", table)
    with pytest.raises(InputError, match=message):
        mrigmm.manifest("bids", tree.folder, tree.folder / "m.json")


def test_two_runs_are_not_guessed_between(tree):
    for run in (1, 2):
        tree.image(f"sub-01/anat/sub-01_run-{run}_LGE.nii.gz")
    with pytest.raises(InputError, match=r"two files for LGE(.|\n)*--rename run-1_LGE=LGE"):
        mrigmm.manifest("bids", tree.folder, tree.folder / "m.json")
