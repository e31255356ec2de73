"""What can be wrong with readable data: one small function per finding, each None where all is well.

The functions know neither files nor studies; `mrigmm.jobs.check` calls them and adds both.
"""

from mrigmm.data.quality.duplicates import fingerprint, patients_in_two_splits, same_content
from mrigmm.data.quality.grids import implausible_spacing, not_parallel, on_another_grid, sheared
from mrigmm.data.quality.intensities import negative, saturated
from mrigmm.data.quality.names import unknown_classes, unknown_sequences
from mrigmm.data.quality.regions import (
    cavity_contrast,
    implausible_size,
    misplaced,
    swapped,
    touches_border,
)

__all__ = [
    "cavity_contrast",
    "fingerprint",
    "implausible_size",
    "implausible_spacing",
    "misplaced",
    "negative",
    "not_parallel",
    "on_another_grid",
    "patients_in_two_splits",
    "same_content",
    "saturated",
    "sheared",
    "swapped",
    "touches_border",
    "unknown_classes",
    "unknown_sequences",
]
