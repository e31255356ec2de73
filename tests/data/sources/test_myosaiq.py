import json

import mrigmm

from .conftest import BLOOD, EDEMA, MYOCARDIUM, SCAR, read

IDS = (0, 1, 2, 3, 4)


def test_visits(tree):
    for folder, study in (("D8_postMI", "001_D8"), ("M1_postMI", "001_M1"), ("M12_postMI", "001_M12")):
        tree.image(f"training/{folder}/images/{study}.nii.gz")
        tree.label(f"training/{folder}/labels/{study}.nii.gz", ids=IDS)
    tree.image("testing/D8_postMI/images/007_D8.nii.gz")
    found = read(mrigmm.manifest("myosaiq", tree.folder, tree.folder / "m.json", region_from_labels="lv"))
    assert found.splits == {"training": ["001_D8", "001_M1", "001_M12"], "test": ["007_D8"]}
    expected = {"blood": BLOOD, "myocardium": MYOCARDIUM, "scar": EDEMA + SCAR}
    assert found.counts == dict.fromkeys(found.splits["training"], expected)


def test_visits_of_one_patient_stay_together(tree):
    for study in ("001_D8", "001_M1", "001_M12", "002_M1", "002_M12"):
        tree.image(f"images/{study}.nii.gz")
    result = mrigmm.manifest("myosaiq", tree.folder, tree.folder / "m.json", split="folds=3")
    tests = [{s["id"] for s in json.loads(path.read_text())["test"]} for path in result.manifests]
    assert sorted(map(sorted, tests)) == [["001_D8"], ["001_M1", "001_M12"], ["002_M1", "002_M12"]]
