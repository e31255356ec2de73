from dataclasses import replace
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its own name
import torch

from mrigmm.data.manifest import RegionRule, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.maps import NO_CLASS, read_reference_label
from mrigmm.data.study import load_study
from mrigmm.errors import InputError
from mrigmm.labels import Region

from ..conftest import SEQUENCES, SHAPE, intensities, oblique_affine, save_nifti, ventricle

CLASSES = ("blood", "myocardium", "edema", "scar")
LABELS = {"background": (0,), "blood": (1,), "myocardium": (2,), "edema": (3,), "scar": (4,)}
LV = ventricle() > 0


@pytest.fixture
def study(workshop):
    """The hand-made study with its region and label, all on one grid."""
    return read_manifest(workshop.manifest()).split("test")[0]


def load(study, classes=CLASSES, **options):
    return load_study(study, SEQUENCES, classes, **{"labels": LABELS, **options})


def in_file_order(tensors):
    return tensors.to_input_grid(tensors.image)


def region_in_file_order(tensors):
    return tensors.to_input_grid(tensors.region[None])[0]


def with_file(study, workshop, role, data, affine=None):
    """The study with one file replaced."""
    path = workshop.volume(f"other_{role}.nii.gz", data, affine)
    if role in SEQUENCES:
        return replace(study, images={**study.images, role: path})
    return replace(study, **{role: path})


def refusal(study, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        load(study, **options)
    assert caught.value.problems[0].study == study.id
    return caught.value.problems[0]


# --- Intensities -------------------------------------------------------------------------------


def test_every_sequence_has_mean_0_and_sd_1_inside_the_region(study):
    tensors = load(study)
    assert tensors.image.shape == (3, *SHAPE)
    assert tensors.image.dtype == torch.float32
    inside = tensors.voxels.double()
    assert inside.shape == (int(LV.sum()), 3)
    np.testing.assert_allclose(inside.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(inside.std(0, unbiased=False), 1, atol=1e-6)
    assert tensors.present.tolist() == [True, True, True]
    assert tensors.warnings == ()


def test_the_same_scale_applies_outside_the_region(study):
    lge = intensities(ventricle(), "LGE").astype(float)
    expected = (lge - lge[LV].mean()) / lge[LV].std()
    # No voxel here is further than ten percentile ranges out, so that nothing is clipped.
    np.testing.assert_allclose(in_file_order(load(study))[0], expected, atol=1e-5)


def test_units_do_not_matter(study, workshop):
    scaled = with_file(study, workshop, "LGE", intensities(ventricle(), "LGE") * 37.5 - 400)
    np.testing.assert_allclose(load(scaled).image, load(study).image, atol=1e-5)


def test_a_missing_sequence_is_an_absent_channel_of_zeros(study):
    without = replace(study, images={name: study.images[name] for name in ("LGE", "bSSFP")})
    tensors = load(without)
    assert tensors.present.tolist() == [True, False, True]
    assert not tensors.image[1].any()
    np.testing.assert_array_equal(tensors.image[[0, 2]], load(study).image[[0, 2]])
    assert set(tensors.inputs) == {"LGE", "bSSFP"}


def test_a_study_without_any_of_the_sequences(study):
    problem = refusal(replace(study, images={"T1": study.images["LGE"]}), "none of the sequences")
    assert problem.got == "T1"


@pytest.mark.parametrize("value", [0, 7.5, 1e6])
def test_a_constant_sequence_is_left_out_with_a_warning(study, workshop, value):
    tensors = load(with_file(study, workshop, "T2", np.full(SHAPE, value, np.float32)))
    assert tensors.present.tolist() == [True, False, True]
    assert tensors.warnings == (
        "T2 is constant inside the region and is left out",
        "edema cannot be told reliably without T2",
    )
    assert not tensors.image[1].any()


def test_contrast_outside_the_region_is_no_contrast(study, workshop):
    data = np.where(LV, 100, intensities(ventricle(), "T2")).astype(np.float32)
    assert load(with_file(study, workshop, "T2", data)).present.tolist() == [True, False, True]


def test_a_study_without_any_contrast(study, workshop):
    flat = workshop.volume("flat.nii.gz", np.ones(SHAPE, np.float32))
    problem = refusal(replace(study, images=dict.fromkeys(SEQUENCES, flat)), "no sequence varies")
    assert problem.got == f"one value in all {int(LV.sum())} voxels"


@pytest.mark.parametrize("outlier", [1e5, -1e5, 1e29])
def test_an_extreme_voxel_does_not_set_the_scale(study, workshop, outlier):
    data = intensities(ventricle(), "LGE")
    data[8, 7, 1] = outlier
    tensors = load(with_file(study, workshop, "LGE", data))
    assert tensors.notes == ("LGE: 1 extreme voxels of the region were clipped",)
    assert torch.isfinite(tensors.image).all()
    # One of 336 voxels, clipped 10 ranges out, still leaves most of the contrast between the classes.
    mapped = in_file_order(tensors)[0]
    contrast = mapped[ventricle() == 4].mean() - mapped[ventricle() == 2].mean()
    assert contrast > 1


# --- Regions -----------------------------------------------------------------------------------


def test_1_is_the_ventricle_in_a_map_of_ones(study):
    np.testing.assert_array_equal(region_in_file_order(load(study)), np.where(LV, Region.LV, 0))


def test_1_is_the_cavity_in_a_map_with_a_wall(study, workshop):
    label = ventricle()
    codes = np.where(label == 1, 1, np.where(LV, 2, 0)).astype(np.uint8)
    found = region_in_file_order(load(with_file(study, workshop, "region", codes)))
    np.testing.assert_array_equal(found, np.where(label == 1, Region.CAVITY, np.where(LV, Region.WALL, 0)))


def test_a_map_of_the_wall_alone(study, workshop):
    wall = ventricle() > 1
    found = region_in_file_order(load(with_file(study, workshop, "region", (2 * wall).astype(np.uint8))))
    np.testing.assert_array_equal(found, np.where(wall, Region.WALL, 0))


def test_the_cavity_leaves_the_region_where_no_class_fits_it(study, workshop):
    label = ventricle()
    codes = np.where(label == 1, 1, np.where(LV, 2, 0)).astype(np.uint8)
    changed = with_file(study, workshop, "region", codes)
    tensors = load(changed, classes=("myocardium", "scar"))
    np.testing.assert_array_equal(region_in_file_order(tensors) > 0, label > 1)
    # The units stay those of the whole ventricle, in which the shipped prior is stated.
    np.testing.assert_array_equal(tensors.image, load(changed).image)


def test_a_region_where_no_class_fits(study, workshop):
    codes = np.zeros(SHAPE, np.uint8)
    codes[8, 6:9, 1] = 2
    problem = refusal(
        with_file(study, workshop, "region", codes), "holds none of the classes", classes=("blood",)
    )
    assert problem.got == "only wall"


def test_rules_from_the_label(study):
    label = ventricle()
    lv = region_in_file_order(load(replace(study, region=RegionRule("lv"))))
    np.testing.assert_array_equal(lv, np.where(LV, Region.LV, 0))
    both = region_in_file_order(load(replace(study, region=RegionRule("cavity-wall"))))
    np.testing.assert_array_equal(both, np.where(label == 1, Region.CAVITY, np.where(LV, Region.WALL, 0)))


def test_the_right_ventricle_is_no_part_of_a_derived_region(study, workshop):
    label = ventricle().astype(np.int16)
    label[0] = 600
    changed = with_file(study, workshop, "label", label)
    tensors = load(replace(changed, region=RegionRule("lv")), labels={**LABELS, "rv_blood": (600,)})
    np.testing.assert_array_equal(region_in_file_order(tensors) > 0, LV)


def test_rule_nonzero_wants_every_sequence_above_0(study, workshop):
    t2 = intensities(ventricle(), "T2")
    t2[:, :5] = 0
    t2[0, 13] = -1
    changed = replace(with_file(study, workshop, "T2", t2), region=RegionRule("nonzero"))
    np.testing.assert_array_equal(region_in_file_order(load(changed)) > 0, t2 > 0)


@pytest.mark.parametrize("kind", ["lv", "cavity-wall"])
def test_a_rule_needs_its_label(study, kind):
    refusal(replace(study, region=RegionRule(kind), label=None), "no reference label")
    refusal(replace(study, region=RegionRule(kind)), "label ids of this cohort are not known", labels={})


def test_no_region(study):
    assert "--region" in refusal(replace(study, region=None), "no region map").remedy


def test_an_empty_region_names_its_file(study, workshop):
    empty = with_file(study, workshop, "region", np.zeros(SHAPE, np.uint8))
    assert refusal(empty, "the region is empty").file == str(empty.region)
    no_label = with_file(study, workshop, "label", np.zeros(SHAPE, np.uint8))
    problem = refusal(replace(no_label, region=RegionRule("lv")), "the region is empty")
    assert problem.file == str(no_label.label)


@pytest.mark.parametrize("role", ["region", "label"])
def test_maps_must_lie_on_the_reference_grid(study, workshop, role):
    shifted = with_file(study, workshop, role, ventricle() & 1, oblique_affine(origin_mm=(31, -17.5, 45.25)))
    problem = refusal(shifted, f"the {role} map is not on the grid", with_label=True)
    assert "corners differ by up to 3.0 mm" in problem.got
    cut = with_file(study, workshop, role, (ventricle() & 1)[:-1])
    assert refusal(cut, f"the {role} map is not on the grid", with_label=True).got.startswith("15 x 14 x 3")


@pytest.mark.parametrize("role", ["region", "label"])
@pytest.mark.parametrize("turn", [[[0, -1], [1, 1], [2, 1]], [[1, 1], [0, -1], [2, -1]]])
def test_a_map_saved_with_turned_axes_is_turned_back(study, workshop, role, turn):
    original = nib.load(getattr(study, role))
    turned = original.as_reoriented(np.array(turn))
    same = with_file(study, workshop, role, np.asarray(turned.dataobj), turned.affine)
    expected, found = load(study, with_label=True), load(same, with_label=True)
    np.testing.assert_array_equal(found.region, expected.region)
    np.testing.assert_array_equal(found.label, expected.label)


def test_a_header_rounded_by_another_program_is_no_other_grid(study, workshop):
    near = oblique_affine(origin_mm=(31.05, -17.5, 42.25))
    assert load(with_file(study, workshop, "region", LV.astype(np.uint8), near)).region.any()


# --- Labels ------------------------------------------------------------------------------------


def test_labels_become_class_indices(study):
    tensors = load(study, with_label=True, classes=("scar", "blood"))
    expected = np.full(SHAPE, NO_CLASS)
    expected[ventricle() == 4], expected[ventricle() == 1] = 0, 1
    np.testing.assert_array_equal(tensors.to_input_grid(tensors.label[None])[0], expected)


def test_several_ids_of_one_class(study):
    labels = {"background": (0,), "blood": (1,), "myocardium": (2,), "scar": (3, 4)}
    reference = read_reference_label(study, load(study).output.grid, labels, ("myocardium", "scar"))
    np.testing.assert_array_equal(reference == 1, ventricle() >= 3)


def test_the_label_is_not_read_unless_asked_for(study):
    broken = replace(study, label=study.label.with_name("no.nii.gz"))
    assert load(broken).label is None
    refusal(broken, "does not exist", with_label=True)


# --- Grids -------------------------------------------------------------------------------------


def test_the_reference_is_lge_or_the_first(study):
    assert load(study).output.file == study.images["LGE"]
    assert load_study(study, ("bSSFP", "LGE"), CLASSES).output.file == study.images["LGE"]
    assert load_study(study, ("T2", "bSSFP"), CLASSES).output.file == study.images["T2"]


def test_resampling_agrees_with_simpleitk(study, workshop):
    """T2 on another oblique grid that covers the region, against SimpleITK's linear interpolation."""
    affine = oblique_affine((0.9, 1.0, 7.0), origin_mm=(34.0, -15.0, 34.0))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    affine = turn @ affine
    # Put the middle of the moving grid on the middle of the reference grid.
    shape = (40, 36, 8)
    middle = oblique_affine() @ [7.5, 6.5, 1, 1] - affine @ [19.5, 17.5, 3.5, 1]
    affine[:3, 3] += middle[:3]
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    data = (100 + 30 * np.sin(x / 4) * np.cos(y / 5) + 8 * z).astype(np.float32)
    changed = with_file(study, workshop, "T2", data, affine)
    tensors = load(changed)
    assert tensors.warnings == ()

    moving = sitk.ReadImage(str(changed.images["T2"]))
    reference = sitk.ReadImage(str(study.images["LGE"]))
    resampled = sitk.Resample(moving, reference, sitk.Transform(), sitk.sitkLinear, -1e6, sitk.sitkFloat64)
    expected = np.transpose(sitk.GetArrayFromImage(resampled))  # SimpleITK's (z, y, x) to (x, y, z)
    assert expected[LV].min() > 0  # the region is covered
    expected = (expected - expected[LV].mean()) / expected[LV].std()
    np.testing.assert_allclose(in_file_order(tensors)[1][LV], expected[LV], atol=2e-4)


def test_a_sequence_that_lies_elsewhere_is_refused(study, workshop):
    moved = with_file(study, workshop, "T2", np.ones(SHAPE), oblique_affine(origin_mm=(231, -17.5, 42.25)))
    problem = refusal(moved, "T2 does not show the region")
    assert "covers 0 % of the region" in problem.got


def test_a_sequence_that_misses_a_rim_is_told(study, workshop):
    # Of the columns x = 2 .. 13 that the region touches, the first is cut off: 4 to 6 voxels of each slice.
    affine = oblique_affine()
    affine[:3, 3] += 3 * affine[:3, 0]
    tensors = load(with_file(study, workshop, "T2", intensities(ventricle(), "T2")[3:], affine))
    share = 100 * LV[3:].sum() / LV.sum()
    assert tensors.warnings == (f"T2 covers {share:.1f} % of the region and counts as missing in the rest",)
    assert tensors.observed[0].all()
    assert not tensors.observed[1].all()
    assert (tensors.image[1][~tensors.observed[1]] == 0).all()
    assert (in_file_order(tensors)[1][:3] == 0).all()
    assert in_file_order(tensors)[1][3][LV[3]].all()


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)), ids=str)
def test_stored_order_and_flips_change_nothing_and_are_undone(tmp_path, order, flips):
    """All 48 ways to store one volume give the same array, and lead back to where they came from."""
    base = np.random.default_rng(4).normal(size=(6, 5, 3))
    ornt = np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)], dtype=float)
    data = nib.orientations.apply_orientation(base, ornt).astype(np.float32)
    affine = oblique_affine() @ nib.orientations.inv_ornt_aff(ornt, base.shape)
    image = save_nifti(tmp_path / "a.nii", data, affine)
    region = save_nifti(tmp_path / "r.nii", np.ones(data.shape, np.uint8), affine)
    tensors = load_study(Study("s", {"LGE": image}, region), ("LGE",), ("a", "b"))
    z = (base - base.mean()) / base.std()
    # Base is stored as LPS: the same picture, flipped in plane.
    np.testing.assert_allclose(tensors.image[0], z[::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(tensors.spacing_mm, (1.2, 1.2, 10), rtol=1e-5)
    back = in_file_order(tensors)[0]
    assert back.shape == data.shape
    np.testing.assert_allclose(back, (data - base.mean()) / base.std(), atol=1e-5)
    # Exactly: counts go there and back without a change, dtype included.
    counts = torch.arange(base.size, dtype=torch.uint8).reshape(1, *base.shape)
    returned = tensors.to_input_grid(counts)
    assert returned.dtype == np.uint8
    expected = nib.orientations.apply_orientation(counts[0].numpy()[::-1, ::-1], ornt)
    np.testing.assert_array_equal(returned[0], expected)
