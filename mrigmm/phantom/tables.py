"""Calibrated tables of the phantom. Class order: blood, myocardium, edema, scar; sequences: LGE, T2, bSSFP.

Partial volume, noise, shading and the reader's displaced borders pull the measured class means
together and widen the classes, so what is drawn differs a little from what is tabulated in
`population_statistics.json`. These tables hold the difference. They were found by matching moments
and autocorrelation on the tuning seeds of `scripts/calibrate_phantom.py`; no method took part.
"""

from __future__ import annotations

from typing import Any

# Added to the tabulated class means (LV z-score units).
MEAN_SHIFT = ((-0.013, 0.066, 0.005), (-0.276, 0.29, -0.187), (-0.427, 0.8, -0.072), (0.17, 0.372, -0.209))

# Factor on the tabulated within-class SD.
WIDTH_FACTOR = ((0.778, 0.969, 0.728), (0.623, 0.922, 0.793), (0.656, 0.73, 0.973), (0.858, 1.058, 0.906))

# SDs in mm of the Gaussian kernels whose sum makes the residual, before the point spread.
FIELD_SCALES_MM = (0.75, 1.5, 3.0, 7.5)
# Share of the residual's variance at each of these scales: class, sequence, scale.
FIELD_SHARES = (
    ((0.471, 0.0, 0.0, 0.529), (0.165, 0.0, 0.309, 0.526), (0.368, 0.0, 0.044, 0.589)),
    ((0.547, 0.16, 0.018, 0.275), (0.41, 0.0, 0.064, 0.526), (0.6, 0.0, 0.118, 0.283)),
    ((0.275, 0.356, 0.322, 0.047), (0.0, 0.459, 0.007, 0.534), (0.194, 0.322, 0.226, 0.258)),
    ((0.53, 0.144, 0.326, 0.0), (0.297, 0.111, 0.311, 0.281), (0.322, 0.049, 0.454, 0.175)),
)

# Signal of the zero-intensity level in LV z-score units: LGE, T2, bSSFP. From the tabulated ratio of
# the raw intensity of blood to that of normal myocardium.
ZERO_LEVEL = (-1.50, -1.12, -1.86)

# Raw signal of the tissues around the LV, on the scale of the LV z-score with zero at ZERO_LEVEL.
AROUND = {
    "air": (0.05, 0.05, 0.05),
    "lung": (0.40, 0.25, 0.20),
    "liver": (1.00, 0.65, 0.80),
    "muscle": (1.00, 1.10, 0.90),
    "fat": (2.50, 4.10, 2.20),
}


def as_dict() -> dict[str, Any]:
    """Every table by name, for the hash of a preset."""
    return {name: value for name, value in globals().items() if name.isupper()}
