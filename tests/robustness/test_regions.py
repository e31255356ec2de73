"""Region maps and reference labels that do not fit."""

import nibabel as nib
import numpy as np
import pytest

from ..conftest import oblique_affine
from .cases import LV, TRUTH, StudyCase, assert_clean, assert_command, assert_study_case, identified, messages

MOVED = oblique_affine(origin_mm=(231.0, -17.5, 42.25))
GRID = "region map is not on the grid of the reference sequence"
LABEL_GRID = "label map is not on the grid"


def region(change, affine=None, **options):
    return lambda place: place.volume("region", change(LV), affine, **options)


def label(change, affine=None):
    return lambda place: place.volume("label", change(TRUTH), affine)


def voxels(n):
    """The first n voxels of the ventricle."""

    def change(lv):
        flat = np.zeros(lv.size, np.uint8)
        flat[np.flatnonzero(lv)[:n]] = 1
        return flat.reshape(lv.shape)

    return change


def box(lv):
    out = np.zeros_like(lv)
    out[:8, :9] = 1
    return out


def values(*found):
    """The map with these values somewhere."""

    def change(data):
        out = data.astype(np.float64)
        out[0, : len(found), 0] = found
        return out

    return change


def without(key):
    return lambda place: place.bad.pop(key)


def coarser(place):
    """T2 on a grid of its own: 2.4 mm pixels, half a pixel further."""
    affine = oblique_affine()
    affine[:3, :2] *= 2
    affine[:3, 3] += affine[:3, :2].sum(axis=1) / 4
    place.volume("T2", place.data("T2")[::2, ::2], affine)


def turned(place):
    """The region as a program saves it that has an order of the axes of its own."""
    image = nib.load(place.file("region")).as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    place.volume("region", np.asarray(image.dataobj), image.affine)


def two_islands(lv):
    out = lv.copy()
    out[9:11] = 0
    return out


CASES = [
    StudyCase(
        "region of no voxel",
        region(lambda lv: lv * 0),
        "the region is empty",
        "region",
        got="none",
        remedy="leave the study out",
        commands=("files", "prior"),
    ),
    StudyCase(
        "region of one voxel",
        region(voxels(1)),
        "no sequence varies inside the region",
        got="1 voxels",
        remedy="belong together",
        commands=("files",),
    ),
    StudyCase(
        "region of three voxels",
        region(voxels(3)),
        "fewer voxels than there are classes",
        got="3",
        check=0,
        commands=("files",),
    ),
    StudyCase("region of four voxels", region(voxels(4)), result="segmented"),
    StudyCase(
        "region of four voxels, slice by slice", region(voxels(4)), method="em-gmm", result="segmented"
    ),
    StudyCase("region touching the border", region(box), result="segmented; check warns"),
    StudyCase("region is the whole image", region(np.ones_like), result="segmented; check warns"),
    StudyCase(
        "region in one slice of three", region(lambda lv: lv * (np.arange(3) == 1)), result="segmented"
    ),
    StudyCase("region in two islands", region(two_islands), result="segmented"),
    StudyCase("region as floats", region(lambda lv: lv.astype(np.float32)), same=True),
    StudyCase("region as float64", region(lambda lv: lv.astype(np.float64)), same=True),
    StudyCase(
        "region with fractions",
        region(lambda lv: lv * 0.5),
        "no whole numbers",
        "region",
        got="0.5",
        remedy="nearest neighbour",
        commands=("files",),
    ),
    StudyCase("region that a linear resampling smeared", region(values(0.998)), "no whole numbers", "region"),
    StudyCase("region with NaN", region(values(np.nan)), "no whole numbers", "region", got="nan"),
    StudyCase(
        "region with an unknown id",
        region(lambda lv: lv * 5),
        "unknown class id",
        "region",
        got="5",
        remedy="1 = cavity and 2 = wall",
        commands=("files", "prior"),
    ),
    StudyCase("region with a negative id", region(values(-1)), "unknown class id", "region", got="-1"),
    StudyCase("region with an id of 1e300", region(values(1e300)), "region", "region"),
    StudyCase("region of 0 and 255", region(lambda lv: lv * 255), "unknown class id", "region", got="255"),
    StudyCase(
        "region of the wall only",
        region(lambda lv: np.where(TRUTH > 1, 2, 0).astype(np.uint8)),
        result="segmented: no blood",
    ),
    StudyCase(
        "region of another shape",
        region(lambda lv: lv[:, :-1]),
        GRID,
        "region",
        got="20 x 23 x 3",
        remedy="resample the map",
        commands=("files", "prior"),
    ),
    StudyCase(
        "region on another grid", region(lambda lv: lv, MOVED), GRID, "region", got="by up to 200.0 mm"
    ),
    StudyCase(
        "region whose header has another order",
        region(lambda lv: lv, oblique_affine(order=(1, 0, 2))),
        GRID,
        "region",
    ),
    StudyCase(
        "region mirrored about its first voxel",
        region(lambda lv: lv[::-1], oblique_affine(flips=(1, -1, 1))),
        GRID,
        "region",
    ),
    StudyCase("region saved with axes flipped and permuted", turned, same=True),
    StudyCase("region of fewer slices", region(lambda lv: lv[..., :2]), GRID, "region", got="20 x 24 x 2"),
    StudyCase(
        "no region, and no heart of a heart's size",
        without("region"),
        "no left ventricle was found",
        "LGE",
        remedy="give a region map",
    ),
    StudyCase(
        "region and image swapped",
        lambda place: place.bad.update(region=place.bad["image"]["T2"]),
        "region map has",
        "region",
    ),
    StudyCase("T2 on a grid of its own", coarser, result="segmented: T2 is resampled"),
    StudyCase(
        "T2 elsewhere in the body",
        lambda place: place.volume("T2", place.data("T2"), MOVED),
        "T2 does not show the region",
        "T2",
        got="covers 0 %",
        remedy="repair the header",
        commands=("files",),
    ),
    StudyCase(
        "sequences cut to the region's half",
        lambda place: place.volume("T2", place.data("T2")[:9]),
        "T2 does not show the region",
        "T2",
        got="covers",
    ),
    StudyCase(
        "T2 of the upper two slices",
        lambda place: place.volume("T2", place.data("T2")[..., :2]),
        note="counts as missing in the rest",
        result="segmented; notes what T2 does not cover",
    ),
]

# The label does not matter to predict, and decides evaluate.
LABELS = [
    StudyCase("label as floats", label(lambda ids: ids.astype(np.float32))),
    StudyCase("label with fractions", label(values(1.5)), "no whole numbers", "label", got="1.5"),
    StudyCase(
        "label with an unknown id", label(values(7)), "unknown class id", "label", got="7", remedy="'labels'"
    ),
    StudyCase("label with an id of 2**40", label(values(2.0**40)), "unknown class id", "label"),
    StudyCase("label on another grid", label(lambda ids: ids, MOVED), LABEL_GRID, "label", remedy="resample"),
    StudyCase("label of another shape", label(lambda ids: ids[:-1]), LABEL_GRID, "label", got="19 x 24 x 3"),
    StudyCase("label of one class", label(lambda ids: np.where(ids == 4, ids, 0))),
    StudyCase(
        "label missing", lambda place: place.file("label").unlink(), "the label file does not exist", "label"
    ),
    StudyCase(
        "label cut short",
        lambda place: place.file("label").write_bytes(place.file("label").read_bytes()[:99]),
        "label file is",
        "label",
    ),
]


NOT_NAMED = StudyCase(
    "label not named",
    without("label"),
    "has no reference label",
    remedy="add 'label'",
    result="noted by evaluate",
)


@pytest.mark.parametrize("case", CASES, ids=identified)
def test_regions(cli, place, clean_labels, case):
    assert_study_case(case, cli, place, clean_labels)


@pytest.mark.parametrize("case", LABELS, ids=identified)
def test_labels(cli, place, case):
    case.spoil(place)
    assert_clean(cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm"), 0)
    assert_command("evaluate", case, cli, place)
    assert_command("prior", case, cli, place)


def test_a_label_that_is_not_named(cli, place):
    """Nothing is wrong with the study: evaluate does without it, and only prior has to refuse it."""
    NOT_NAMED.spoil(place)
    assert_clean(cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm"), 0)
    result = cli("evaluate", place.out, place.manifest())
    assert_clean(result, 0)
    assert result.err == "warning: no reference label for 1 of the studies: bad\n"
    assert_command("prior", NOT_NAMED, cli, place)


def test_a_label_without_any_voxel(cli, place):
    """Nothing was labelled: evaluate counts it as a healthy study, prior leaves it out and says so."""
    label(lambda ids: ids * 0)(place)
    cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm")
    assert_command("evaluate", StudyCase("label empty", label), cli, place)
    result = cli("prior", place.manifest(), "-o", place.out / "prior.json", "--split", "test")
    assert_clean(result, 2)
    (message,) = messages(result.err)
    assert (message["what"], message["study"]) == ("the region holds no labelled voxel", "bad")
    assert message["remedy"].startswith("label")
