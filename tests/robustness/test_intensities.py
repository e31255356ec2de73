"""Intensities that no scanner writes, and those that scanners do write; every method on the worst of them."""

import numpy as np
import pytest

from mrigmm.methods.registry import METHODS

from .cases import (
    LV,
    TRUTH,
    StudyCase,
    assert_clean,
    assert_nothing_half,
    assert_study_case,
    every,
    identified,
    messages,
    with_data,
)

SEQUENCES = ("LGE", "T2", "bSSFP")
FINITE = "has NaN or infinite voxels"
INSIDE, OUTSIDE = (8, 8, 1), (0, 0, 0)


def voxel(role, where, value, dtype=np.float32):
    def change(data):
        data = data.astype(dtype)
        data[where] = value
        return data

    return with_data(role, change)


def filled(role, value):
    return with_data(role, lambda data: np.full(data.shape, value, np.float32))


def scaled(factor, offset=0.0, dtype=np.float32):
    return every(
        SEQUENCES, lambda role: with_data(role, lambda d: (d.astype(float) * factor + offset).astype(dtype))
    )


def two_levels(role):
    return with_data(role, lambda data: (data > np.median(data[LV > 0])).astype(np.float32))


def empty_slice(place):
    for role in SEQUENCES:
        data = place.data(role).copy()
        data[..., 1] = 0
        place.volume(role, data)


def without_lge(place):
    """T2 and bSSFP only."""
    del place.bad["image"]["LGE"]


def t2_is_lge(place):
    place.volume("T2", place.data("LGE"))


CASES = [
    StudyCase(
        "one NaN",
        voxel("T2", OUTSIDE, np.nan),
        FINITE,
        "T2",
        got="1 of 1440",
        remedy="replace",
        commands=("files",),
    ),
    StudyCase(
        "NaN everywhere", filled("LGE", np.nan), FINITE, "LGE", got="1440 of 1440", commands=("prior",)
    ),
    StudyCase("one +inf", voxel("LGE", INSIDE, np.inf), FINITE, "LGE"),
    StudyCase("one -inf", voxel("bSSFP", INSIDE, -np.inf), FINITE, "bSSFP"),
    StudyCase("infinite everywhere", filled("T2", np.inf), FINITE, "T2"),
    StudyCase(
        "beyond 1e30",
        voxel("T2", OUTSIDE, 1e35),
        "intensities that no scanner writes",
        "T2",
        got="1e+35",
        remedy="scl_slope",
    ),
    StudyCase(
        "beyond float32", voxel("T2", INSIDE, 1e300, np.float64), "intensities that no scanner writes", "T2"
    ),
    StudyCase("an outlier of 1e30 outside the region", voxel("LGE", OUTSIDE, 1e30), same=True),
    StudyCase(
        "an outlier of 1e30 inside the region",
        voxel("LGE", INSIDE, 1e30),
        note="clipped",
        result="segmented; notes that a voxel was clipped",
    ),
    StudyCase(
        "an outlier of -1e30 inside the region",
        voxel("T2", INSIDE, -1e30),
        note="clipped",
        result="segmented; notes that a voxel was clipped",
    ),
    StudyCase(
        "LGE constant",
        filled("LGE", 100),
        note="LGE is constant inside the region and is left out",
        result="segmented without LGE, and says so",
    ),
    StudyCase(
        "T2 constant inside the region",
        with_data("T2", lambda d: np.where(LV > 0, 7, d)),
        note="T2 is constant inside the region and is left out",
        result="segmented without T2, and says so",
    ),
    StudyCase(
        "all sequences constant",
        every(SEQUENCES, lambda role: filled(role, 100)),
        "no sequence varies inside the region",
        got="one value in all",
        remedy="belong together",
        commands=("files", "prior"),
    ),
    StudyCase(
        "all sequences zero",
        every(SEQUENCES, lambda role: filled(role, 0)),
        "no sequence varies inside the region",
    ),
    StudyCase("all-negative PSIR", with_data("LGE", lambda d: d - 1000), same=True),
    StudyCase("PSIR around zero", with_data("LGE", lambda d: d - 120), same=True),
    StudyCase("an offset of 1e4", scaled(1, 1e4, np.float64), result="segmented"),
    StudyCase("scaled by 1e-20", scaled(1e-20), same=True),
    StudyCase("scaled by 1e25", scaled(1e25), same=True),
    StudyCase("denormal numbers", scaled(1e-40), result="segmented"),
    StudyCase("two grey levels", every(SEQUENCES, two_levels), result="segmented"),
    StudyCase("an empty slice", empty_slice, result="segmented"),
    StudyCase(
        "LGE missing",
        without_lge,
        note="scar cannot be told reliably without LGE",
        result="segmented on the grid of T2, and says what is missing",
    ),
    StudyCase(
        "T2 is a copy of LGE",
        t2_is_lge,
        note="LGE and T2 are the same image",
        check=1,
        result="segmented with a warning; an error of check",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=identified)
def test_intensities(cli, place, clean_labels, case):
    assert_study_case(case, cli, place, clean_labels)


# What is hardest on the numerics, on the region that the method wants.
HOSTILE = {
    "outlier of 1e30": voxel("LGE", INSIDE, 1e30),
    "two grey levels": every(SEQUENCES, two_levels),
    "negative": scaled(-1, -1000),
    "LGE constant": filled("LGE", 100),
    "LGE missing": without_lge,
    "T2 is LGE": t2_is_lge,
    "tiny region": with_data("region", lambda d: np.where(np.indices(d.shape)[2] == 1, d, 0) * (TRUTH != 2)),
}
SLOW = {
    "dsp-kmeans",
    "dsp-gmm",
    "dsp-cnn",
    "deepg-single",
    "deepsvg-single",
    "cnn-superpixels",
    "cnn-continuity",
}
QUICK = {"dsp": ["iterations=3"], "deep": ["epochs=1"], "cnn": ["max_iter=3"]}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] if m in SLOW else []) for m in METHODS]
)
def test_every_method(cli, place, method, hostile):
    """A method segments the study, or refuses it by name; it never breaks, and the other study is done."""
    for role in ("good", "bad"):
        entry = getattr(place, role)
        place.workshop.volume(
            entry["region"], np.where(TRUTH == 1, 1, np.where(TRUTH > 0, 2, 0)).astype(np.uint8)
        )
    HOSTILE[hostile](place)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", method)
    assert_clean(result, result.code)
    found = messages(result.err)
    if result.code == 0:
        assert_nothing_half(place.out, ("good", "bad"))
        return
    assert result.code == 2
    assert_nothing_half(place.out, ("good",))
    assert all(message["study"] == "bad" for message in found)
