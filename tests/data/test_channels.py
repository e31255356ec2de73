import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ResampleToMatch

from mrigmm.data.channels import resample_linear
from mrigmm.data.geometry import Grid

from ..conftest import oblique_affine


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
