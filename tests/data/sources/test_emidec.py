import mrigmm

from .conftest import BLOOD, EDEMA, MYOCARDIUM, SCAR, read

# The second wall sector is no-reflow (4): infarct, as the first (3).
IDS = (0, 1, 2, 3, 4)


def test_both_sets(tree):
    for case in ("P001", "N006"):
        tree.image(f"emidec-dataset-1.0.1/Case_{case}/Images/Case_{case}.nii.gz")
        tree.label(f"emidec-dataset-1.0.1/Case_{case}/Contours/Case_{case}.nii.gz", ids=IDS)
        tree.text(f"emidec-dataset-1.0.1/Case {case}.txt", "Sex: F")
    tree.image("emidec-segmentation-testset-1.0.0/Case_101/Images/Case_101.nii.gz")
    found = read(mrigmm.manifest("emidec", tree.folder, tree.folder / "m.json", region_from_labels="lv"))
    assert found.splits == {"training": ["Case_N006", "Case_P001"], "test": ["Case_101"]}
    expected = {"blood": BLOOD, "myocardium": MYOCARDIUM, "scar": EDEMA + SCAR}
    assert found.counts == {"Case_N006": expected, "Case_P001": expected}
    # Bare numbers as in MyoPS 2020, but another data set: no prior of its own is made.
    assert not any("prior" in note for note in found.notes)
