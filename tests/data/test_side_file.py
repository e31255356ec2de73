import json

import numpy as np
import pytest

from mrigmm.data.geometry import Grid
from mrigmm.data.maps import on_grid
from mrigmm.data.side_file import LabelMapRecord, Review, SavedMixture, SideFile, record_of
from mrigmm.data.volumes import read_map

from ..conftest import SHAPE, oblique_affine, save_nifti, ventricle

CLASSES = {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
GRID = Grid(SHAPE, oblique_affine())


def side(**changes):
    return SideFile(classes=CLASSES, label_map=record_of(ventricle(), GRID), **changes)


def through_json(content):
    return SideFile.from_json(json.loads(json.dumps(content)))


def saved(tmp_path, data, affine=GRID.affine):
    volume = read_map(save_nifti(tmp_path / "map.nii.gz", data, affine), study="s", role="label")
    return on_grid(volume, GRID, "s", "label")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_the_type_of_the_file_is_no_change(tmp_path, dtype):
    labels = ventricle().astype(dtype)
    if dtype == np.int64:  # which NIfTI-1 writers ask about
        labels = labels.astype(np.int32)
    assert side().describes(saved(tmp_path, labels))


def test_turned_and_flipped_axes_are_no_change(tmp_path):
    """Slices first, and the last of them first: the same voxels by another affine."""
    turned = np.moveaxis(ventricle(), -1, 0)[::-1]
    affine = oblique_affine()[:, [2, 0, 1, 3]]
    affine[:3, 3] += (SHAPE[2] - 1) * affine[:3, 0]
    affine[:3, 0] *= -1
    volume = saved(tmp_path, turned, affine)
    assert volume.stored_shape == SHAPE
    assert side().describes(volume)


def test_two_voxels_that_change_places_are_a_change(tmp_path):
    """No volume changes; only the digest can tell, which a side file of an older version has not."""
    labels = ventricle()
    first, second = np.argwhere(labels == 4)[0], np.argwhere(labels == 2)[0]
    labels[tuple(first)], labels[tuple(second)] = 2, 4
    volume = saved(tmp_path, labels)
    assert not side().describes(volume)
    voxel_ml = 0.0144
    volumes = {name: float((ventricle() == i).sum() * voxel_ml) for name, i in CLASSES.items()}
    old = SideFile(classes=CLASSES, volume_ml=volumes)
    assert old.describes(volume)
    labels[tuple(first)] = 4
    assert not old.describes(saved(tmp_path, labels))


def test_what_is_written_is_read():
    mixture = SavedMixture(("LGE",), "z", np.ones((1, 1)), np.ones((1, 1, 1)), np.ones((1, 1, 1, 1)))
    content = {
        **side(mixture=mixture, method="map-em", details={"iterations": 3}, region="cavity-wall").as_json(),
        "inputs": {"LGE": "/data/lge.nii.gz"},
        "made_with": {"images": {"LGE": "abc"}},
        "warnings": ["w"],
    }
    read = through_json(content)
    assert json.loads(json.dumps(read.as_json())) == json.loads(json.dumps(content))
    assert read.details == {"iterations": 3}
    assert read.region_file is None  # a rule
    assert read.image_digests == {"LGE": "abc"}
    assert read.sequences == ("LGE",)


def test_an_interrupt_while_it_is_written_is_no_failure_of_the_study(monkeypatch):
    def stopped(record):
        raise KeyboardInterrupt

    monkeypatch.setattr(LabelMapRecord, "as_json", stopped)
    with pytest.raises(KeyboardInterrupt):
        side().as_json()


def test_of_another_program_the_classes_are_enough():
    read = through_json({"classes": CLASSES, "region": "lv.nii.gz"})
    assert (read.method, read.label_map, read.mixture, read.quantities) == ("unknown", None, None, None)
    assert str(read.region_file) == "lv.nii.gz"


@pytest.mark.parametrize(
    "change",
    [
        {"label_map": {"shape": [1, 2], "affine": np.eye(4).tolist(), "sha256": ""}},
        {"label_map": {"shape": [1, 2, 3], "affine": np.zeros((4, 4)).tolist(), "sha256": ""}},
        {"label_map": {"shape": [1, 2, 3], "affine": [1], "sha256": ""}},
        {"label_map": {}},
        {"label_map": "a digest"},
        {"label_map": [1]},
        {"region": {"quality": "x"}},
        {"made_with": {"images": 5}},
        {"classes": {}},
        {"classes": {"blood": 1, "scar": 1}},
    ],
    ids=str,
)
def test_damaged(change):
    with pytest.raises((LookupError, TypeError, ValueError)):
        through_json({"classes": CLASSES, **change})


def test_a_grid_that_the_header_names_twice():
    """A map drawn by the other affine of the header is on the grid, and is measured by the first."""
    scaled = oblique_affine() @ np.diag([2, 2, 1, 1])
    grid = Grid(SHAPE, oblique_affine(), (scaled,))
    read = through_json({"classes": CLASSES, "label_map": record_of(ventricle(), grid).as_json()})
    assert read.label_map is not None
    assert read.label_map.grid.same_as(Grid(SHAPE, scaled))
    assert read.label_map.grid.voxel_volume_ml == pytest.approx(0.0144)


def test_a_review_is_read_as_it_was_written():
    review = Review(
        verdict="rejected", comment="µ", insertion_mm=(1.0, -2.5, 3.0), base="last", by="A", at="t"
    )
    assert through_json(side(review=review).as_json()).review == review
    assert "review" not in side().as_json()


@pytest.mark.parametrize(
    "review",
    [{"verdict": "x"}, {"base": 1}, {"insertion_mm": [1, 2]}, {"insertion_mm": [1, 2, float("inf")]}, "x"],
    ids=str,
)
def test_a_damaged_review(review):
    with pytest.raises((TypeError, ValueError)):
        through_json({"classes": CLASSES, "review": review})
