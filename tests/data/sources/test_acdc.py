import mrigmm

from .conftest import BLOOD, WALL, read

IDS = (0, 3, 2, 2, 2, 1)


def patient(tree, folder, number, frames, info=None):
    name = f"patient{number:03d}"
    for frame in frames:
        tree.image(f"{folder}/{name}/{name}_frame{frame:02d}.nii.gz", sequence="bSSFP")
        tree.label(f"{folder}/{name}/{name}_frame{frame:02d}_gt.nii.gz", ids=IDS)
    tree.image(f"{folder}/{name}/{name}_4d.nii.gz", sequence="bSSFP")
    if info:
        tree.text(f"{folder}/{name}/Info.cfg", info)


def test_two_phases_of_a_patient(tree):
    patient(tree, "database/training", 1, (1, 12), "ED: 1\nES: 12\nGroup: MINF\nHeight: 184.0\nNbFrame: 30\n")
    patient(tree, "database/testing", 101, (3, 14), "ED: 14\nES: 3\n")
    patient(tree, "database/training", 2, (1,))
    found = read(mrigmm.manifest("acdc", tree.folder, tree.folder / "m.json", region_from_labels="lv"))
    assert found.splits == {
        "training": ["patient001_ED", "patient001_ES", "patient002_frame01"],
        "test": ["patient101_ED", "patient101_ES"],
    }
    expected = {"blood": BLOOD, "myocardium": WALL}
    assert found.counts == dict.fromkeys(found.studies, expected)
    assert found.studies["patient101_ED"].images["bSSFP"].name == "patient101_frame14.nii.gz"
    assert found.notes[0] == "no Info.cfg names the phase: patient002_frame01"
    assert found.notes[1].startswith("NIfTI files of no study: 3 (")  # of all phases


def test_one_patient_by_itself(tree):
    patient(tree, ".", 1, (1, 12), "ED: 1\nES: 12\n")
    source = tree.folder / "patient001"
    found = read(mrigmm.manifest("acdc", source, source / "m.json", region_from_labels="lv"))
    assert list(found.studies) == ["patient001_ED", "patient001_ES"]
