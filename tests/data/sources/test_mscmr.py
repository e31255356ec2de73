import mrigmm

from .conftest import BLOOD, WALL, read

IDS = (0, 500, 200, 200, 200, 600)


def test_the_label_is_that_of_the_output_grid(tree):
    for patient in (2, 10):
        for name, sequence in (("C0", "bSSFP"), ("LGE", "LGE"), ("T2", "T2")):
            tree.image(f"c0t2lge/patient{patient}_{name}.nii.gz", sequence=sequence)
    tree.label("c0gt/patient2_C0_manual.nii.gz", "c0gt/patient10_C0_manual.nii.gz", ids=IDS)
    tree.label("lgegt/patient2_LGE_manual.nii.gz", ids=IDS)
    tree.image("c0t2lge/patient3_C0.nii.gz", sequence="bSSFP")
    tree.label("c0gt/patient3_C0_manual.nii.gz", ids=IDS)
    found = read(mrigmm.manifest("mscmr", tree.folder, tree.folder / "m.json", region_from_labels="lv"))
    assert found.splits == {"training": ["patient2", "patient3", "patient10"]}  # counted, not spelt
    assert found.counts == {p: {"blood": BLOOD, "myocardium": WALL} for p in ("patient2", "patient3")}
    assert found.studies["patient2"].label.name == "patient2_LGE_manual.nii.gz"
    assert found.studies["patient3"].label.name == "patient3_C0_manual.nii.gz"
    assert found.studies["patient10"].label is None
    assert found.notes[0] == "only T2 or bSSFP has a label, on another grid than LGE: patient10"
