import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch

from mrigmm.data.channels import on_reference_grid, resample_linear
from mrigmm.data.geometry import Grid
from mrigmm.data.volumes import read_image

from ..conftest import oblique_affine, save_nifti


def test_hand_computed_values_and_borders():
    data = np.array([[[0.0]], [[10.0]], [[40.0]]], dtype=np.float32)  # at x = 0, 2, 4 mm
    source = Grid((3, 1, 1), np.diag([2.0, 1, 1, 1]))
    target = Grid((7, 1, 1), np.array([[1, 0, 0, -1.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    # At -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5 mm; the border's value holds beyond 0 and 4 mm.
    found = resample_linear(data, source, target)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [0, 0, 2.5, 7.5, 17.5, 32.5, 40], rtol=1e-6)


@pytest.mark.parametrize("kind", ["oblique", "sheared", "left-handed", "one slice"])
def test_the_same_as_monai(kind):
    shape, affine = (9, 8, 4), oblique_affine((1.5, 1.4, 7.0), origin_mm=(30.0, -16.0, 40.0))
    if kind == "sheared":
        affine[:3, 2] += 2 * affine[:3, 0]
    elif kind == "left-handed":
        affine[:3, 0] *= -1
    elif kind == "one slice":
        shape = (9, 8, 1)
    data = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    target = Grid((10, 7, 3), oblique_affine(order=(1, 0, 2)))
    match = ResampleToMatch(mode="bilinear", padding_mode="border", align_corners=False, dtype=torch.float64)
    expected = match(
        MetaTensor(torch.from_numpy(data)[None], affine=torch.from_numpy(affine)),
        MetaTensor(torch.zeros(1, *target.shape), affine=torch.from_numpy(target.affine)),
    )
    found = resample_linear(data, Grid(shape, affine), target)
    assert found.std() > 0.1
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("distance_mm", "start_mm", "told"),
    [(10.0, 5.0, []), (20.0, 0.0, ["20 mm apart: 50 % of the region lies more than 6 mm"])],
)
def test_slices_far_from_those_of_the_region_are_told(tmp_path, distance_mm, start_mm, told):
    """LGE at 0, 10, 20, 30 mm. T2 at 5, 15, 25 mm, half a step off; or at 0, 20, 40 mm, with a gap."""
    affine = np.diag([2.0, 2.0, distance_mm, 1.0])
    affine[2, 3] = start_mm
    noise = np.random.default_rng(0).normal(size=(8, 8, 4)).astype(np.float32)
    lge, t2 = (
        read_image(save_nifti(tmp_path / f"{name}.nii", data, where), study="p1", role=name)
        for name, data, where in (
            ("LGE", noise, np.diag([2.0, 2.0, 10.0, 1.0])),
            ("T2", noise[..., :3], affine),
        )
    )
    inside = np.ones((8, 8, 4), bool)
    notes = [n for n in on_reference_grid(t2, lge, inside, None, "p1", "T2").notes if "apart" in n]
    assert [text in note for text, note in zip(told, notes, strict=True)] == [True] * len(told)
