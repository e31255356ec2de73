"""Corrections of the second centre's LGE figures, as in `tables`: class order blood, myocardium, edema, scar.

They belong to the preset `second-centre` and `population_lge_second_centre.json`; edema, which that file
does not know, has the figures of normal wall.
"""

from __future__ import annotations

from typing import Any

# Added to the tabulated class means (LV z-score units).
LGE_MEAN_SHIFT = (0.139, -0.171, -0.171, 0.051)

# Factor on the tabulated within-class SD.
LGE_WIDTH_FACTOR = (0.677, 0.557, 0.557, 0.518)

# Share of the residual's variance at each of `tables.FIELD_SCALES_MM`.
LGE_FIELD_SHARES = (
    (0.32, 0.0, 0.37, 0.31),
    (0.408, 0.0, 0.243, 0.349),
    (0.408, 0.0, 0.243, 0.349),
    (0.528, 0.0, 0.381, 0.091),
)


def as_dict() -> dict[str, Any]:
    """Return every table by name, for the hash of a preset."""
    return {name: value for name, value in globals().items() if name.isupper()}
