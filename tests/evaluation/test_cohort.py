import math

import numpy as np
import pytest

from mrigmm.evaluation.cohort import study_overlaps, summarise
from mrigmm.evaluation.overlap import Overlap

CLASSES = ("blood", "myocardium", "edema", "scar")


def test_classes_and_nested_regions_of_one_study():
    #                     blood  myo      edema  scar  none
    reference = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3, -1])
    predicted = np.array([0, 1, 1, 1, 2, 3, 2, 3, 2, -1])
    found = study_overlaps(predicted, reference, CLASSES, voxel_volume_ml=0.5)
    assert list(found) == [*CLASSES, "wall", "pathology"]
    dice = {name: o.dice for name, o in found.items()}
    assert dice == {
        "blood": pytest.approx(2 * 1 / 3),
        "myocardium": pytest.approx(2 * 2 / 6),
        "edema": pytest.approx(2 * 1 / 5),
        "scar": pytest.approx(2 * 1 / 4),
        "wall": pytest.approx(2 * 7 / 15),  # 8 predicted, 7 true: confusion inside the wall is no error
        "pathology": pytest.approx(2 * 4 / 9),
    }
    assert found["pathology"].predicted_ml == 2.5
    assert found["pathology"].reference_ml == 2


def test_regions_that_the_reference_does_not_know_are_left_out():
    labels = np.array([0, 1])
    assert list(study_overlaps(labels, labels, ("blood", "scar"), voxel_volume_ml=1)) == ["blood", "scar"]


def o(dice, predicted=1.0, reference=1.0):
    return Overlap(dice, dice / 2, predicted, reference)


def test_the_semantics_of_empty_classes():
    """Table of docs/data.md: absent ones are not rewarded, false findings are not hidden."""
    both_empty, false_positive, missed = o(math.nan, 0, 0), o(0, 1, 0), o(0, 0, 1)
    summary = summarise(
        {
            "a": {"scar": o(0.8)},
            "b": {"scar": o(0.4)},
            "c": {"scar": both_empty},
            "d": {"scar": both_empty},
            "e": {"scar": both_empty},
            "f": {"scar": false_positive},
            "g": {"scar": missed},
        }
    )["scar"]
    assert summary.n == 4
    assert summary.dice_mean == pytest.approx(0.3)  # (0.8 + 0.4 + 0 + 0) / 4
    assert summary.dice_sd == pytest.approx((0.44 / 3) ** 0.5)  # 0.25 + 0.01 + 0.09 + 0.09 over 4 - 1
    assert summary.iou_mean == pytest.approx(0.15)
    assert (summary.false_positive_studies, summary.missed_studies) == (1, 1)
    assert summary.correct_negative_studies == 3
    assert summary.sensitivity == pytest.approx(2 / 3)  # found in 2 of 3 with scar
    assert summary.specificity == pytest.approx(3 / 4)  # absent in 3 of 4 without


def test_a_cohort_without_the_class_is_not_perfect():
    summary = summarise({"a": {"scar": o(math.nan, 0, 0)}})["scar"]
    assert math.isnan(summary.dice_mean)
    assert math.isnan(summary.sensitivity)
    assert (summary.n, summary.specificity) == (0, 1)


def test_one_study_has_no_spread():
    summary = summarise({"a": {"scar": o(0.5)}})["scar"]
    assert (summary.dice_mean, summary.n) == (0.5, 1)
    assert math.isnan(summary.dice_sd)
    assert math.isnan(summary.iou_sd)
    assert math.isnan(summary.specificity)


def test_two_studies_have_a_spread():
    """Dice 0.2 and 0.8, IoU 0.1 and 0.4: half the difference times the root of 2."""
    summary = summarise({"a": {"scar": o(0.2)}, "b": {"scar": o(0.8)}})["scar"]
    assert (summary.dice_sd, summary.iou_sd) == (pytest.approx(0.3 * 2**0.5), pytest.approx(0.15 * 2**0.5))


def test_classes_that_some_studies_lack():
    summary = summarise({"a": {"scar": o(0.5)}, "b": {"edema": o(0.2), "scar": o(0.7)}})
    assert {name: figures.n for name, figures in summary.items()} == {"scar": 2, "edema": 1}


def test_derived_figures_are_in_the_dictionary():
    figures = summarise({"a": {"scar": o(0.5)}})["scar"].as_dict()
    assert figures["sensitivity"] == 1
    assert math.isnan(figures["specificity"])
