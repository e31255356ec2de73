import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from mrigmm.data.crops import median_spacing_mm, network_input, network_view
from mrigmm.data.manifest import Study
from mrigmm.data.study import load_study

from ..conftest import oblique_affine, save_nifti


def make(folder, *, shape=(48, 44, 3), spacing=(1.2, 1.2, 10.0), box=((14, 30), (16, 34)), order=(0, 1, 2)):
    """A study with a smooth picture and a box-shaped region."""
    x, y = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(shape[:2], spacing[:2], strict=True)), indexing="ij"
    )
    picture = (np.sin(x / 6) + np.cos(y / 7))[..., None] + np.arange(shape[2]) * 0.3
    region = np.zeros(shape, np.uint8)
    region[slice(*box[0]), slice(*box[1])] = 1
    affine = oblique_affine(spacing, order=order)
    image = save_nifti(folder / "a.nii", picture.astype(np.float32), affine)
    mask = save_nifti(folder / "r.nii", region, affine)
    return load_study(Study("s", {"LGE": image}, mask), ("LGE",), ("a", "b"))


@pytest.mark.parametrize(
    ("spacing", "to_mm", "tolerance"),
    [
        ((1.2, 1.2, 10.0), 1.2, 1e-6),  # not resampled: exact
        ((1.2, 1.2, 10.0), 1.23, 1e-6),  # 2.5 % apart counts as the same
        ((1.2, 1.2, 10.0), 1.5, 0.05),
        ((1.2, 1.2, 10.0), 0.8, 0.05),
        ((1.0, 1.8, 8.0), 1.2, 0.05),  # in-plane anisotropy
    ],
)
def test_a_smooth_map_survives_the_round_trip(tmp_path, spacing, to_mm, tolerance):
    study = make(tmp_path, spacing=spacing)
    view = network_view(study, spacing_mm=to_mm, crop_mm=60, divisor=8)
    back = view.to_study_grid(view.image)
    assert back.shape == study.image.shape
    inside = study.region > 0
    difference = (back[0] - study.image[0])[inside].abs().max()
    assert difference < tolerance  # z-score units; the picture's SD is 1


@pytest.mark.parametrize("to_mm", [1.2, 0.8, 1.5])
def test_maps_go_back_as_torch_resizes_them(tmp_path, to_mm):
    """With zeros beyond the square, and only as much of the plane as is asked for."""
    view = network_view(make(tmp_path), spacing_mm=to_mm, crop_mm=40, divisor=8)
    side, (x, y), far = view.image.shape[1], view.corner, 64  # the square reaches beyond the image
    plane = torch.zeros(1, *(2 * far + n for n in view.resampled), 3)
    plane[:, far + x : far + x + side, far + y : far + y + side] = view.image
    resampled = plane[:, far:-far, far:-far]
    expected = interpolate(resampled[None], (48, 44, 3), mode="trilinear")[0]
    torch.testing.assert_close(view.to_study_grid(view.image), expected, atol=1e-6, rtol=0)
    box = (slice(10, 33), slice(20, 44))
    torch.testing.assert_close(view.to_study_grid(view.image, box), expected[:, *box], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("crop_mm", "spacing_mm", "divisor", "side"),
    [
        (60, 1.2, 1, 50),  # 60 / 1.2 pixels
        (60, 1.2, 8, 56),  # the next multiple of 8
        (60, 1.2, 16, 64),
        # The region reaches 9 pixels from its centre, and 8 more are kept around it: 2 x 17.
        (1, 1.2, 1, 34),
        (1, 1.2, 8, 40),
    ],
)
def test_the_side_of_the_square(tmp_path, crop_mm, spacing_mm, divisor, side):
    view = network_view(make(tmp_path), spacing_mm=spacing_mm, crop_mm=crop_mm, divisor=divisor)
    assert view.image.shape == (1, side, side, 3)
    assert view.region.shape == (side, side, 3)


def test_the_whole_region_is_in_the_square_and_in_its_middle(tmp_path):
    study = make(tmp_path)
    view = network_view(study, spacing_mm=1.2, crop_mm=40, divisor=8)
    assert int((view.region > 0).sum()) == int((study.region > 0).sum())
    centre = (view.region > 0).nonzero()[:, :2].double().mean(0)
    side = view.region.shape[0]
    assert (centre - side / 2).abs().max() <= 1


def test_a_region_at_the_edge_is_padded_with_zeros(tmp_path):
    study = make(tmp_path, box=((0, 6), (38, 44)))
    view = network_view(study, spacing_mm=1.2, crop_mm=60, divisor=8)
    assert int((view.region > 0).sum()) == int((study.region > 0).sum())
    assert int((view.image == 0).sum()) > view.image.numel() // 3
    back = view.to_study_grid(view.image)
    inside = study.region > 0
    torch.testing.assert_close(back[:, inside], study.image[:, inside])


def test_outside_the_square_the_way_back_is_0(tmp_path):
    study = make(tmp_path, shape=(96, 96, 2), box=((10, 20), (10, 20)))
    view = network_view(study, spacing_mm=1.2, crop_mm=30, divisor=8)
    back = view.to_study_grid(torch.ones((2, *view.region.shape)))
    assert back.shape == (2, 96, 96, 2)
    side = view.region.shape[0]
    assert side < 96
    assert int(back[0, :, :, 0].sum()) <= side * side
    assert back[:, study.region > 0].min() == 1


# A box in the middle: its crop lies inside the image.
MIDDLE = ((16, 32), (14, 30))


def crop_input(study, **changes):
    options = {"standardise": "crop", "spacing_mm": 1.2, "crop_mm": 40, "divisor": 8}
    return network_input(study, **(options | changes))


@pytest.mark.parametrize("spacing_mm", [1.2, 0.8])
def test_zscores_over_the_crop_slice_by_slice(tmp_path, spacing_mm):
    # The slices of this study differ by an offset: standardised one by one, they are alike.
    _, view = crop_input(make(tmp_path, box=MIDDLE), spacing_mm=spacing_mm)
    x = view.image[0]  # (A, B, Z), no padding here
    assert (x != 0).all()
    torch.testing.assert_close(x.mean(dim=(0, 1)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 1), unbiased=False), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[..., 0], x[..., 2], atol=1e-4, rtol=0)


def test_the_study_gets_the_map_of_its_crop(tmp_path):
    study = make(tmp_path, box=MIDDLE)
    changed, view = crop_input(study)
    before = network_view(study, spacing_mm=1.2, crop_mm=40, divisor=8).image[0]
    for z in range(3):
        centre, scale = before[..., z].mean(), before[..., z].std(unbiased=False)
        expected = (study.image[0, ..., z] - centre) / scale
        torch.testing.assert_close(changed.image[0, ..., z], expected, atol=1e-5, rtol=0)
    back = view.to_study_grid(view.image)
    inside = study.region > 0
    torch.testing.assert_close(back[0][inside], changed.image[0][inside], atol=1e-4, rtol=0)
    assert changed.to_input_grid(changed.image).shape == (1, 48, 44, 3)


def test_padding_does_not_count(tmp_path):
    study = make(tmp_path, box=((0, 10), (0, 12)))
    _, view = crop_input(study, crop_mm=60)
    x = view.image[0, ..., 1]
    assert (x == 0).sum() > x.numel() // 3
    seen = x[x != 0]
    assert seen.mean().item() == pytest.approx(0, abs=1e-5)
    assert seen.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_region_units_are_left_alone(tmp_path):
    study = make(tmp_path)
    same, view = crop_input(study, standardise="region")
    assert same is study
    assert torch.equal(view.image, network_view(study, spacing_mm=1.2, crop_mm=40, divisor=8).image)


def test_one_slice_and_slices_along_the_first_file_axis(tmp_path):
    single = make(tmp_path, shape=(48, 44, 1))
    view = network_view(single, spacing_mm=1.5, crop_mm=60, divisor=8)
    assert view.image.shape[-1] == 1
    assert view.to_study_grid(view.image).shape == single.image.shape


def test_pixels_become_square(tmp_path):
    study = make(tmp_path, shape=(60, 30, 2), spacing=(1.0, 2.0, 8.0), box=((20, 40), (10, 20)))
    view = network_view(study, spacing_mm=1.0, crop_mm=40, divisor=1)
    inside = (view.region[..., 0] > 0).nonzero()
    extent = inside.max(0).values - inside.min(0).values + 1
    # 20 mm x 20 mm in the file (20 x 10 pixels) are 20 x 20 pixels of 1 mm here.
    assert sorted(extent.tolist()) == [20, 20]


def test_median_spacing(tmp_path):
    studies = []
    for index, spacing in enumerate([(1.0, 1.0, 8), (1.204, 1.204, 8), (2.0, 2.0, 8)]):
        (tmp_path / str(index)).mkdir()
        studies.append(make(tmp_path / str(index), spacing=spacing))
    assert median_spacing_mm(study.spacing_mm for study in studies) == 1.2


def test_percentiles_inside_the_region_become_minus_one_and_one(tmp_path):
    """The same whatever the units of the file, negative ones too; outside the region it is the same map."""
    study = make(tmp_path, box=MIDDLE)
    changed, view = crop_input(study, standardise="percentile")
    x, inside = changed.image[0], study.region > 0
    low, high = np.percentile(x[inside].numpy(), [1, 99])
    assert (low, high) == pytest.approx((-1, 1), abs=1e-5)
    z = study.image[0]
    p01, p99 = np.percentile(z[inside].double().numpy(), [1, 99])
    expected = (z - (p01 + p99) / 2) * 2 / (p99 - p01)
    torch.testing.assert_close(x, expected, atol=1e-5, rtol=0, check_dtype=False)
    torch.testing.assert_close(view.image, network_view(changed, spacing_mm=1.2, crop_mm=40, divisor=8).image)
