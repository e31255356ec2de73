"""Calibrated tables of the phantom. Class order: blood, myocardium, edema, scar; sequences: LGE, T2, bSSFP.

Partial volume, noise, shading and the reader's displaced borders pull the measured class means
together and widen the classes, so what is drawn differs a little from what is tabulated in
`population_statistics.json`. These tables hold the difference. They were found by matching moments
and autocorrelation on the tuning seeds of `scripts/calibrate_phantom.py`; no method took part.
"""

from __future__ import annotations

from typing import Any

# Added to the tabulated class means (LV z-score units).
MEAN_SHIFT = ((0.02, -0.071, 0.012), (-0.238, 0.172, -0.18), (-0.266, 0.5, -0.094), (0.18, 0.131, -0.205))

# Factor on the tabulated within-class SD.
WIDTH_FACTOR = ((0.769, 0.997, 0.759), (0.721, 0.8, 0.888), (0.724, 0.667, 1.052), (0.757, 0.921, 0.937))

# SDs in mm of the Gaussian kernels whose sum makes the residual, before the point spread.
FIELD_SCALES_MM = (0.75, 1.5, 3.0, 7.5)
# Share of the residual's variance at each of these scales: class, sequence, scale.
FIELD_SHARES = (
    ((0.486, 0.0, 0.0, 0.514), (0.232, 0.0, 0.332, 0.436), (0.368, 0.0, 0.13, 0.502)),
    ((0.695, 0.0, 0.098, 0.207), (0.438, 0.0, 0.061, 0.501), (0.63, 0.0, 0.109, 0.26)),
    ((0.419, 0.326, 0.225, 0.03), (0.146, 0.454, 0.0, 0.401), (0.349, 0.0, 0.594, 0.057)),
    ((0.542, 0.129, 0.305, 0.024), (0.394, 0.02, 0.313, 0.273), (0.384, 0.0, 0.615, 0.0)),
)

# Signal of the zero-intensity level in LV z-score units: LGE, T2, bSSFP. From the tabulated ratio of
# the raw intensity of blood to that of normal myocardium.
ZERO_LEVEL = (-1.50, -1.12, -1.86)

# Raw signal of the tissues around the LV, on the scale of the LV z-score with zero at ZERO_LEVEL.
AROUND = {
    "air": (0.05, 0.05, 0.05),
    "lung": (0.40, 0.25, 0.25),
    "liver": (1.00, 0.65, 0.80),
    "muscle": (1.00, 1.10, 0.90),
    "fat": (2.20, 4.20, 2.00),
}


def as_dict() -> dict[str, Any]:
    """Every table by name, for the hash of a preset."""
    return {name: value for name, value in globals().items() if name.isupper()}
