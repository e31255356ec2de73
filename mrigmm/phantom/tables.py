"""Calibrated tables of the phantom. Class order: blood, myocardium, edema, scar; sequences: LGE, T2, bSSFP.

Partial volume, noise, shading and the reader's displaced borders pull the measured class means
together and widen the classes, so what is drawn differs a little from what is tabulated in
`population_statistics.json`. These tables hold the difference. They were found by matching moments
and autocorrelation on the tuning seeds of `scripts/calibrate_phantom.py`; no method took part.
"""

from __future__ import annotations

from typing import Any

# Added to the tabulated class means (LV z-score units).
MEAN_SHIFT = (
    (-0.014, 0.052, -0.004),
    (-0.276, 0.278, -0.185),
    (-0.451, 0.865, -0.049),
    (0.165, 0.402, -0.205),
)

# Factor on the tabulated within-class SD.
WIDTH_FACTOR = ((0.776, 0.973, 0.72), (0.612, 0.928, 0.785), (0.652, 0.743, 0.958), (0.846, 1.077, 0.895))

# SDs in mm of the Gaussian kernels whose sum makes the residual, before the point spread.
FIELD_SCALES_MM = (0.75, 1.5, 3.0, 7.5)
# Share of the residual's variance at each of these scales: class, sequence, scale.
FIELD_SHARES = (
    ((0.485, 0.0, 0.0, 0.515), (0.182, 0.0, 0.336, 0.482), (0.36, 0.0, 0.096, 0.544)),
    ((0.648, 0.0, 0.162, 0.191), (0.422, 0.0, 0.076, 0.503), (0.61, 0.0, 0.139, 0.25)),
    ((0.347, 0.302, 0.276, 0.076), (0.091, 0.42, 0.0, 0.489), (0.273, 0.141, 0.381, 0.204)),
    ((0.515, 0.172, 0.313, 0.0), (0.345, 0.061, 0.314, 0.28), (0.358, 0.052, 0.5, 0.089)),
)

# Signal of the zero-intensity level in LV z-score units: LGE, T2, bSSFP. From the tabulated ratio of
# the raw intensity of blood to that of normal myocardium.
ZERO_LEVEL = (-1.50, -1.12, -1.86)

# Raw signal of the tissues around the LV, on the scale of the LV z-score with zero at ZERO_LEVEL.
AROUND = {
    "air": (0.05, 0.05, 0.05),
    "lung": (0.40, 0.32, 0.20),
    "liver": (1.00, 0.85, 0.80),
    "muscle": (1.00, 1.15, 0.90),
    "fat": (2.50, 4.80, 2.20),
}


def as_dict() -> dict[str, Any]:
    """Return every table by name, for the hash of a preset."""
    return {name: value for name, value in globals().items() if name.isupper()}
