"""Faults of readable data: one small function per finding, each None where all is well.

`limits` holds every number that they judge by; `study_problems` asks all that need one study alone, when
the study is read (`mrigmm.data.study`), whatever command reads it.
"""

from mrigmm.data.quality.cohort import (
    fingerprint,
    patients_in_two_splits,
    same_content,
    unknown_classes,
    unknown_sequences,
)
from mrigmm.data.quality.grids import implausible_spacing, not_parallel, on_another_grid, sheared
from mrigmm.data.quality.regions import (
    cavity_contrast,
    misplaced,
    negative,
    saturated,
    swapped,
    touches_border,
)
from mrigmm.data.quality.sizes import implausible_size, wall_thickness_mm
from mrigmm.data.quality.study import codes_slices_last, grid_problems, region_problems, study_problems
from mrigmm.data.quality.topology import doubtful_parts, exchanged, slice_shapes

__all__ = [
    "cavity_contrast",
    "codes_slices_last",
    "doubtful_parts",
    "exchanged",
    "fingerprint",
    "grid_problems",
    "implausible_size",
    "implausible_spacing",
    "misplaced",
    "negative",
    "not_parallel",
    "on_another_grid",
    "patients_in_two_splits",
    "region_problems",
    "same_content",
    "saturated",
    "sheared",
    "slice_shapes",
    "study_problems",
    "swapped",
    "touches_border",
    "unknown_classes",
    "unknown_sequences",
    "wall_thickness_mm",
]
