import math

import numpy as np
import pytest

from mrigmm.evaluation.scores import METRICS, by_metric, estimates, mask_scores, study_scores

AXES = np.diag([1.5, 1.0, 8.0])  # a voxel of 0.012 ml


def square(row, size=3):
    labels = np.full((12, 12, 2), -1)
    labels[row : row + size, 4:7] = 0
    return labels


def test_all_that_is_measured_of_a_mask():
    """Squares of 3 x 3 pixels, one row of 1.5 mm apart, in 2 slices: 12 of 18 voxels in common."""
    found = mask_scores(square(2) == 0, square(3) == 0, AXES).as_dict()
    assert list(found)[:4] == ["dice", "iou", "predicted_ml", "reference_ml"]
    assert set(METRICS) <= set(found)
    assert found["dice"] == pytest.approx(24 / 36)
    assert found["iou"] == pytest.approx(12 / 24)
    assert found["predicted_ml"] == pytest.approx(18 * 0.012)
    assert found["hd95_mm"] == pytest.approx(1.5)
    assert found["volume_error_ml"] == pytest.approx(0)


def test_classes_and_nested_regions():
    labels = square(2)
    labels[labels == 0] = 1
    found = study_scores(square(2), labels, ("edema", "scar"), AXES)
    assert {name: scores.dice for name, scores in found.items()} == {
        "edema": 0, "scar": 0, "wall": 1, "pathology": 1,
    }  # fmt: skip
    assert found["edema"].volume_error_ml == pytest.approx(18 * 0.012)
    assert found["pathology"].hd95_mm == 0
    assert math.isnan(found["scar"].hd95_mm)


def test_means_over_studies_count_what_is_undefined():
    full, wide, none = (labels == 0 for labels in (square(2), square(2, size=4), square(2, size=0)))
    studies = {
        "a": {"scar": mask_scores(full, full, AXES)},
        "b": {"scar": mask_scores(wide, full, AXES)},
        "c": {"scar": mask_scores(none, full, AXES)},
        "d": {"blood": mask_scores(full, full, AXES)},
    }
    assert by_metric(studies, "scar")["volume_error_ml"] == {
        "a": 0, "b": pytest.approx(6 * 0.012), "c": pytest.approx(18 * 0.012),
    }  # fmt: skip
    found = estimates(studies)["scar"]
    assert list(found) == list(METRICS)
    assert found["dice"].mean == pytest.approx((1 + 36 / 42 + 0) / 3)
    assert found["dice"].low < found["dice"].mean < found["dice"].high
    assert (found["hd95_mm"].n, found["hd95_mm"].n_undefined) == (2, 1)
    assert found["hd95_mm"].mean == pytest.approx(1.5 / 2)
