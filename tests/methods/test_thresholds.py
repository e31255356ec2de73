"""The clinical thresholds on walls made by hand: what they must solve, what they must refuse."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import mrigmm
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.standardise import fit_zscore
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region
from mrigmm.methods.base import Task
from mrigmm.methods.registry import make_method
from mrigmm.methods.remote import otsu_threshold
from mrigmm.methods.thresholds import crossing, fit_two_gaussians, large_regions, partial_volume
from mrigmm.mixture import Mixture

from ..conftest import SEQUENCES, SHAPE, intensities, ventricle
from .conftest import CLASSES, EDEMA_ID, SCALE, SCAR_ID, VOXEL_ML, dice

THRESHOLDS = ("otsu", "nsd", "fwhm", "two-gaussians", "em-threshold")
# A sector of the hand-made wall has about 0.6 ml.
SMALL = {"em-threshold": {"min_region_ml": 0.1}}


def infarct(ring, *, bright=300.0, grey=None):
    """LGE with sector 0 bright, and sector 1 grey where asked for; sector 3 is the darkest (95)."""
    lge = ring.base()
    lge[ring.sector(3)] -= 5
    lge[ring.sector(0)] = bright
    if grey is not None:
        lge[ring.sector(1)] = grey
    return lge


# --- What all share


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_bright_arc_is_scar_and_the_rest_normal(ring, segment, name):
    result = segment(name, ring.paint(infarct(ring)), **SMALL.get(name, {}))
    assert dice(result.labels == SCAR_ID, ring.sector(0)) == 1
    assert torch.equal(result.labels == 2, ring.wall & ~ring.sector(0))
    assert torch.equal(result.labels == 1, ring.study.region == Region.CAVITY)
    assert not (result.labels == EDEMA_ID).any()
    inside = ring.study.region > 0
    torch.testing.assert_close(result.resp.sum(0), inside.float(), atol=1e-6, rtol=0)
    assert result.sequences == ("LGE",)
    assert result.log_likelihood[inside].isfinite().all()


@pytest.mark.parametrize("name", THRESHOLDS)
def test_one_slice_is_enough(ring, segment, name):
    lge = infarct(ring)
    whole = ring.paint(lge)
    image = whole.image[..., 1:2]
    study = replace(whole, image=image, observed=whole.observed[..., 1:2], region=whole.region[..., 1:2])
    scar = segment(name, study, **SMALL.get(name, {})).labels == SCAR_ID
    assert torch.equal(scar, ring.sector(0)[..., 1:2])


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_flat_wall_has_no_scar(ring, segment, name):
    """Only the cavity differs, so that LGE varies in the region but not in the wall."""
    lge = torch.where(ring.wall, 100.0, 300.0)
    result = segment(name, ring.paint(lge), **({"definition": "midway"} if name == "fwhm" else {}))
    assert not (result.labels == SCAR_ID).any()
    assert result.resp.isfinite().all()


@pytest.mark.parametrize("name", THRESHOLDS)
def test_without_a_wall_it_refuses_with_a_remedy(ring, segment, name):
    undivided = torch.where(ring.study.region > 0, int(Region.LV), 0).to(torch.uint8)
    with pytest.raises(InputError, match=f"{name} needs to know the wall") as caught:
        segment(name, replace(ring.paint(ring.base()), region=undivided))
    (problem,) = caught.value.problems
    assert (problem.study, problem.remedy) == ("s1", "give such a map, or use map-em-2step")


@pytest.mark.parametrize("name", THRESHOLDS)
def test_without_lge_it_refuses(ring, segment, name):
    study = ring.paint(ring.base(), t2=ring.base())
    observed = study.observed.clone()
    observed[0] = False
    with pytest.raises(InputError, match=f"{name} needs LGE") as caught:
        segment(name, replace(study, observed=observed))
    assert caught.value.problems[0].got == "T2"


@pytest.mark.parametrize("name", THRESHOLDS)
def test_settings_and_classes_are_checked(name):
    with pytest.raises(InputError, match="has no setting"):
        make_method(name, Task(CLASSES, SEQUENCES, None), {"bins": 3})
    with pytest.raises(InputError, match="needs the classes"):
        make_method(name, Task(("blood", "myocardium"), SEQUENCES, None), {})


@pytest.mark.parametrize("name", THRESHOLDS)
def test_without_a_class_for_blood(ring, segment, name):
    """`load_study` then takes the cavity out of the region."""
    region = torch.where(ring.wall, int(Region.WALL), 0).to(torch.uint8)
    study = replace(ring.paint(infarct(ring)), region=region)
    labels = segment(name, study, classes=("myocardium", "scar"), **SMALL.get(name, {})).labels
    assert torch.equal(labels == SCAR_ID, ring.sector(0))


def test_otsu_divides_two_grey_levels_wherever_they_lie_in_their_bins():
    for low in np.linspace(90, 110, 21):
        values = torch.tensor([85.0] * 5 + [float(low)] * 20 + [300.0] * 6)
        assert low <= otsu_threshold(values) < 300
    assert otsu_threshold(torch.full((3,), 7.0)) == 7


# --- Intensities of the file


def test_intensities_of_the_file_are_known_again(ring):
    lge = intensities(ventricle(), "LGE").astype(float)
    zscore = ring.study.zscores["LGE"]
    inside = ventricle() > 0
    assert zscore.centre == pytest.approx(lge[inside].mean(), rel=1e-6)
    z = ring.study.to_input_grid(ring.study.image)[0]
    assert zscore.undo(float(z[8, 10, 1])) == pytest.approx(lge[8, 10, 1], rel=1e-5)
    assert set(ring.study.zscores) == set(SEQUENCES)


def test_zero_is_where_an_image_of_zeros_ends_up():
    zscore = fit_zscore(np.array([0, 3, 7, 12], np.float32))
    assert zscore.zero == float(zscore.apply(np.zeros(1, np.float32))[0])


# --- n-SD


def test_nsd_by_hand(ring, segment):
    """Remote 95, SD 10: grey wall of 130 lies above 2 and 3 SD (115, 125), below 5 and 6 (145, 155)."""
    study = ring.paint(infarct(ring, grey=130.0))
    arc, both = ring.sector(0), ring.sector(0) | ring.sector(1)
    scars = {n: segment("nsd", study, n=n).labels == SCAR_ID for n in (2, 3, 5, 6)}
    n_arc, n_grey = int(arc.sum()), int(ring.sector(1).sum())
    assert dice(scars[2], both) == dice(scars[3], both) == 1
    assert dice(scars[5], both) == dice(scars[6], both) == 2 * n_arc / (2 * n_arc + n_grey)
    details = segment("nsd", study).details
    normal = study.image[0][ring.sector(3)].double() * 50 + 100
    assert details["remote"]["sector"] == 3
    assert details["remote"]["voxels"] == int(ring.sector(3).sum())
    assert details["remote"]["mean_lge"] == pytest.approx(95, rel=1e-6)
    assert details["remote"]["sd_lge"] == pytest.approx(10, abs=0.15)
    assert details["threshold_lge"] == pytest.approx(float(normal.mean() + 5 * normal.std(correction=0)))
    assert details["threshold_z"] == pytest.approx((details["threshold_lge"] - 100) / 50)


def test_nsd_takes_high_t2_for_edema_where_it_is_not_scar(ring, segment):
    """T2 of the remote sector 95, SD 10: 2 SD are 115."""
    t2 = ring.base()
    t2[ring.sector(3)] -= 5
    t2[ring.sector(0) | ring.sector(1)] = 200
    study = ring.paint(infarct(ring), t2=t2)
    result = segment("nsd", study)
    assert dice(result.labels == SCAR_ID, ring.sector(0)) == 1
    assert dice(result.labels == EDEMA_ID, ring.sector(1)) == 1
    torch.testing.assert_close(result.resp.sum(0)[ring.wall], torch.ones(int(ring.wall.sum())))
    # Without the class, or where T2 was not acquired, there is none.
    assert set(segment("nsd", study, classes=("blood", "myocardium", "scar")).labels.unique().tolist()) == {
        0,
        1,
        2,
        4,
    }
    observed = study.observed.clone()
    observed[1, ..., 0] = False
    partly = segment("nsd", replace(study, observed=observed)).labels == EDEMA_ID
    assert torch.equal(partly[..., 1:], ring.sector(1)[..., 1:])
    assert not partly[..., 0].any()


def test_nsd_without_t2_in_the_remote_sector_seeks_no_edema(ring, segment):
    study = ring.paint(infarct(ring), t2=infarct(ring))
    observed = study.observed.clone()
    observed[1] = ring.sector(0)
    result = segment("nsd", replace(study, observed=observed))
    assert result.warnings == ("T2 does not show the remote myocardium: no edema is sought",)
    assert not (result.labels == EDEMA_ID).any()


def test_nsd_knows_its_numbers():
    with pytest.raises(InputError, match="value of 'n' is not allowed"):
        make_method("nsd", Task(CLASSES, SEQUENCES, None), {"n": 4})


def test_nsd_passes_on_that_no_sector_is_large_enough(ring, segment):
    region = torch.zeros_like(ring.study.region)
    few = ring.sector(0).nonzero()[:5]
    few = torch.cat([few, ring.sector(3).nonzero()[:5]])
    region[few.unbind(1)] = int(Region.WALL)
    result = segment("nsd", replace(ring.paint(infarct(ring)), region=region))
    assert result.details["remote"]["sector"] is None
    assert any("no sector of the wall" in text for text in result.warnings)
    assert torch.equal(result.labels == SCAR_ID, (region > 0) & ring.sector(0))


# --- FWHM


def test_fwhm_by_hand(ring, segment):
    """Maximum 300, remote 95: half is 150, midway 197.5; grey wall of 170 lies between."""
    study = ring.paint(infarct(ring, grey=170.0))
    arc, both = ring.sector(0), ring.sector(0) | ring.sector(1)
    half, midway = segment("fwhm", study), segment("fwhm", study, definition="midway")
    n_arc, n_grey = int(arc.sum()), int(ring.sector(1).sum())
    assert dice(half.labels == SCAR_ID, both) == 1
    assert dice(midway.labels == SCAR_ID, both) == 2 * n_arc / (2 * n_arc + n_grey)
    assert half.details["threshold_lge"] == pytest.approx(150)
    assert "remote" not in half.details
    assert midway.details["threshold_lge"] == pytest.approx(197.5, rel=1e-6)
    assert midway.details["remote"]["sector"] == 3


def test_half_of_the_maximum_refuses_phase_sensitive_images(ring, segment):
    study = ring.paint(infarct(ring) - 120)  # normal wall around -20
    with pytest.raises(InputError, match="needs magnitudes") as caught:
        segment("fwhm", study)
    (problem,) = caught.value.problems
    assert problem.study == "s1"
    assert problem.file.endswith("s1_LGE.nii.gz")
    assert problem.got.startswith("-35 in the wall")
    assert problem.remedy == "use --set definition=midway, which a shift does not change"
    labels = segment("fwhm", study, definition="midway").labels
    assert torch.equal(labels == SCAR_ID, ring.sector(0))


def test_magnitudes_that_reach_0_are_magnitudes(workshop, segment):
    """Through the file: rounding of the z-scores must not make 0 negative."""
    entry = workshop.study(region="cavity-wall")
    data = intensities(ventricle(), "LGE")
    data[ventricle() == 2] = 0
    workshop.volume(entry["image"]["LGE"], data)
    study = load_study(read_manifest(workshop.manifest([entry])).split("test")[0], SEQUENCES, CLASSES)
    result = segment("fwhm", study)
    peak = float(data[np.isin(ventricle(), (2, 3, 4))].max())
    assert result.details["threshold_lge"] == pytest.approx(peak / 2, rel=1e-5)
    scar = study.to_input_grid((result.labels == SCAR_ID)[None])[0]
    assert (scar == np.isin(ventricle(), (2, 3, 4)) & (data > peak / 2)).all()


# --- Two Gaussians


def mixed(ring, share):
    """LGE of `share` scar in sectors 0 and 1, from quantiles of N(100, 10) and N(200, 20)."""
    lge, bright = ring.base(), ring.sector(0) | ring.sector(1)
    for mask, mean, sd in ((ring.wall & ~bright, 100.0, 10.0), (bright, 200.0, 20.0)):
        n = int(mask.sum())
        lge[mask] = mean + sd * torch.special.ndtri((torch.arange(n) + 0.5) / n)
    return lge, bright


def test_two_gaussians_are_found(ring, segment):
    lge, bright = mixed(ring, 1 / 3)
    result = segment("two-gaussians", ring.paint(lge))
    assert result.details["means_lge"] == pytest.approx([100, 200], abs=1.5)
    assert dice(result.labels == SCAR_ID, bright) > 0.98
    soft = result.resp[CLASSES.index("scar")]
    assert ((soft > 0.5) == (result.labels == SCAR_ID)).all()
    assert ((soft > 0.01) & (soft < 0.99)).any()


def test_the_darkest_wall_is_no_scar_though_the_bright_component_is_wide(ring, segment):
    lge = ring.base()
    bright = ring.sector(0) | ring.sector(1)
    lge[bright] = torch.linspace(120, 400, int(bright.sum()))
    lge[ring.sector(3)] -= 45  # 45 and 65, twenty SD of what is around them
    scar = segment("two-gaussians", ring.paint(lge)).labels == SCAR_ID
    assert not (scar & ring.sector(3)).any()


def test_the_darker_component_comes_first():
    fit = fit_two_gaussians(torch.tensor([5.0, 5.5, 1.0, 1.5, 1.2, 0.8]))
    assert fit.mixture.means[:, 0].tolist() == pytest.approx([1.125, 5.25], abs=0.01)
    assert fit.resp.argmax(1).tolist() == [1, 1, 0, 0, 0, 0]


# --- EM threshold


def two(weights, means, sds):
    double = {"dtype": torch.float64}
    return Mixture(
        torch.tensor(weights, **double),
        torch.tensor(means, **double)[:, None],
        torch.tensor(sds, **double).square()[:, None, None],
    )


def test_the_threshold_is_where_two_gaussians_cross():
    assert crossing(two([0.5, 0.5], [0.0, 4.0], [1.0, 1.0])) == pytest.approx(2)
    # Equal SD s: the middle moves by s^2 log(w0 / w1) / (m1 - m0) = log(3) / 4.
    assert crossing(two([0.75, 0.25], [0.0, 4.0], [1.0, 1.0])) == pytest.approx(2 + np.log(3) / 4)
    assert crossing(two([1.0, 0.0], [0.0, 4.0], [1.0, 1.0])) == 4
    assert crossing(two([1e-9, 1.0], [0.0, 0.1], [1.0, 1.0])) == 0


def test_partial_volume_is_the_share_of_the_way_to_infarct():
    shares = partial_volume(torch.tensor([90.0, 100.0, 150.0, 200.0, 250.0]), remote=100, infarct=200)
    assert shares.tolist() == [0, 0, 0.5, 1, 1]
    assert partial_volume(torch.tensor([5.0]), remote=5, infarct=5).tolist() == [0]


def test_regions_below_a_volume_go():
    mask = torch.zeros((6, 6, 2), dtype=torch.bool)
    mask[0:2, 0:2, :] = True  # 8 voxels over two slices
    mask[4, 0:3, 0] = True  # 3 voxels
    mask[3, 3, 0] = True  # touches those by a corner only
    kept = large_regions(mask, min_ml=0.3, voxel_ml=0.1)
    assert int(kept.sum()) == 11
    assert not kept[3, 3, 0]
    assert int(large_regions(mask, min_ml=0.8, voxel_ml=0.1).sum()) == 8
    assert not large_regions(mask, min_ml=0.81, voxel_ml=0.1).any()
    assert torch.equal(large_regions(mask, min_ml=0, voxel_ml=0.1), mask)


def test_em_threshold_weights_the_infarct_and_removes_specks(ring, segment):
    lge = infarct(ring)
    speck = ring.sector(4).nonzero()[10]
    lge[tuple(speck)] = 290
    scar, n_arc = ring.sector(0), int(ring.sector(0).sum())
    result = segment("em-threshold", ring.paint(lge), min_region_ml=0.1)
    assert dice(result.labels == SCAR_ID, scar) == 1
    assert result.details["removed_ml"] == pytest.approx(VOXEL_ML)
    # The bright component is 300 but for the speck of 290, and so is nearly every weight 1.
    assert result.details["infarct_lge"] == pytest.approx((300 * n_arc + 290) / (n_arc + 1), abs=0.01)
    assert result.details["weighted_scar_ml"] == pytest.approx(n_arc * VOXEL_ML, rel=1e-6)
    both = segment("em-threshold", ring.paint(lge), min_region_ml=0)
    assert int((both.labels == SCAR_ID).sum()) == n_arc + 1
    assert both.details["removed_ml"] == 0


def test_em_threshold_counts_partial_volume_by_half(ring, segment):
    """Half of the arc is 300, half 220: the weights follow from the means that EM reports."""
    lge = infarct(ring)
    dim = ring.sector(0).nonzero()[::2]
    lge[dim.unbind(1)] = 220
    result = segment("em-threshold", ring.paint(lge), min_region_ml=0.1)
    assert torch.equal(result.labels == SCAR_ID, ring.sector(0))
    normal, bright = result.details["normal_lge"], result.details["infarct_lge"]
    n_full = int(ring.sector(0).sum()) - len(dim)
    expected = (n_full + len(dim) * (220 - normal) / (bright - normal)) * VOXEL_ML
    assert result.details["weighted_scar_ml"] == pytest.approx(expected, rel=1e-5)
    assert 0.7 < result.details["weighted_scar_ml"] / (int(ring.sector(0).sum()) * VOXEL_ML) < 0.95


# --- The side file


def test_the_side_file_says_where_remote_myocardium_is(workshop, tmp_path):
    manifest = workshop.manifest([workshop.study(region="cavity-wall")])
    out = tmp_path / "out"
    assert mrigmm.predict(manifest, out, method="nsd", overrides=["n=3"]).done == ("s1",)
    side = json.loads((out / "s1.json").read_text())
    assert side["settings"] == {"n": 3}
    assert side["remote"]["sector"] in range(6)
    # Normal wall has LGE 30 with noise of SD 6.
    assert side["remote"]["mean_lge"] == pytest.approx(30, abs=3)
    assert side["remote"]["sd_lge"] == pytest.approx(6, abs=2)
    assert side["threshold_lge"] == pytest.approx(
        side["remote"]["mean_lge"] + 3 * side["remote"]["sd_lge"], rel=1e-5
    )


def test_the_hand_made_wall_is_what_the_tests_say(ring):
    assert ring.wall.shape == SHAPE
    assert min(int(ring.sector(number).sum()) for number in range(6)) >= 36
    assert SCALE.zero == -2
