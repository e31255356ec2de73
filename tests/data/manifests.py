"""Manifests for the tests of reading them."""

import json

import pytest

from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError

STUDY = {"id": "p1", "image": ["lge.nii", "t2.nii"], "region": "r.nii", "label": "l.nii"}
GOOD = {
    "modality": {"0": "LGE", "1": "T2"},
    "labels": {"background": 0, "blood": 1, "scar": [3, 4]},
    "test": [STUDY],
}


def write(folder, content):
    path = folder / "manifest.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def problems(folder, content):
    with pytest.raises(InputError) as caught:
        read_manifest(write(folder, content))
    return caught.value.problems
