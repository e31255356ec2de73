import json
from pathlib import Path

import mrigmm

from .conftest import BLOOD, WALL, read

READY = Path(__file__).parents[3] / "data_manifests" / "sunnybrook_ed.json"


def test_the_ready_manifest_comes_out(tree, tmp_path):
    ready = json.loads(READY.read_text())
    for entry in ready["training"]:
        tree.image(entry["image"][0], entry["image"][0].replace("_ED", "_ES"), sequence="bSSFP")
        tree.label(entry["label"], ids=(0, 1, 2, 2, 2))
        tree.label(entry["label"].replace("_ED", "_ES"), ids=(0, 1, 0, 0, 0))
    result = mrigmm.manifest("sunnybrook", tree.folder, tmp_path / "m.json", region_from_labels="lv")
    made = json.loads(result.output.read_text())
    prefixed = {
        **ready,
        "name": "Sunnybrook",
        "training": [
            {**entry, "image": [f"download/{entry['image'][0]}"], "label": f"download/{entry['label']}"}
            for entry in ready["training"]
        ],
    }
    assert made == prefixed
    counts = {"blood": BLOOD, "myocardium": WALL}
    assert read(result).counts == {entry["id"]: counts for entry in ready["training"]}
