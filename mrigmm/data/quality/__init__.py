"""Faults of readable data: one small function per finding, each None where all is well.

`limits` holds every number that they judge by; `study_problems` asks all that need one study alone, when
the study is read (`mrigmm.data.study`), whatever command reads it.
"""

from mrigmm.data.quality.cohort import (
    fingerprint,
    patients_in_two_splits,
    same_content,
    same_images,
    unknown_classes,
    unknown_sequences,
)
from mrigmm.data.quality.grids import implausible_size, implausible_spacing, on_another_grid, size_problems
from mrigmm.data.quality.study import (
    codes_slices_last,
    grid_problems,
    misleading,
    region_problems,
    study_problems,
)
from mrigmm.data.quality.topology import exchanged, slice_shapes

__all__ = [
    "codes_slices_last",
    "exchanged",
    "fingerprint",
    "grid_problems",
    "implausible_size",
    "implausible_spacing",
    "misleading",
    "on_another_grid",
    "patients_in_two_splits",
    "region_problems",
    "same_content",
    "same_images",
    "size_problems",
    "slice_shapes",
    "study_problems",
    "unknown_classes",
    "unknown_sequences",
]
