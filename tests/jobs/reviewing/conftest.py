"""A folder of predictions to review: two small studies, of which one has slices first and flipped axes."""

import shutil

import numpy as np
import pytest

import mrigmm
from tests.conftest import PATIENT, Workshop, oblique_affine

pytest.importorskip("werkzeug", reason="the extra [review] is not installed")
pytest.importorskip("waitress", reason="the extra [review] is not installed")

STUDY, TURNED = "p1", "p 2 ü"


@pytest.fixture(scope="session")
def predicted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    (folder / "data").mkdir()
    workshop = Workshop(folder / "data")
    turned = oblique_affine((4.5, 4.5, 10.0), order=(1, 0, 2), flips=(1, -1, -1))
    studies = [workshop.study(STUDY, affine=PATIENT), workshop.study(TURNED, affine=turned, seed=1)]
    mrigmm.predict(workshop.manifest(studies), folder / "out", method="map-em")
    return folder


@pytest.fixture
def folder(predicted, tmp_path):
    """A copy of it, to change."""
    shutil.copytree(predicted / "out", tmp_path / "out")
    return tmp_path / "out"


def voxel_ml(image):
    """Volume of a voxel by its affine."""
    return abs(np.linalg.det(image.affine[:3, :3])) / 1000
