"""Knobs of the phantom and the named presets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from mrigmm.phantom import tables

SEQUENCES = ("LGE", "T2", "bSSFP")
REFERENCE_SEQUENCE = "LGE"  # its grid carries the region and the label map; it is never missing

RegionKind = Literal["lv", "cavity-wall"]


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """Settings of a simulated study. Lengths are in mm, shares and probabilities in 0 to 1.

    Grid
        spacing_mm: in-plane voxel size. matrix: voxels along x and y.
        slices: fewest and most slices of a study. slice_distance_mm: smallest and largest distance
        between slice centres. slice_thickness_mm: slab that one slice averages over.
        separate_grids: T2 and bSSFP get grids of their own instead of the one of LGE.
        motion_mm: largest in-plane displacement of a slice of T2 or bSSFP against LGE.
        missing_probability: chance that T2 is missing, and the same for bSSFP.
    Patients
        region: values of the region map. healthy_share: studies without infarct.
        chronic_share: studies with scar but no edema and with a thinned wall.
        mvo_share: acute studies whose larger infarcts have a dark, no-reflow core.
        wall_thinning: relative loss of wall thickness in the middle of a chronic scar.
    Appearance
        psir: phase-sensitive LGE, in which normal wall and lung are negative.
        contrast_spread: between-study spread of the means of blood, myocardium, edema and scar;
        1 = as tabulated.
        width_spread: log-SD over studies of the within-class SD.
        slice_spread: SD of a slice's class mean about the study's, in within-class SD.
        tails: 0 = Gaussian residuals, 1 = the log-normal ones that a non-negative signal of the
        tabulated mean and SD would have.
        psf_mm: SD of the in-plane point spread. shading: relative SD of the coil's sensitivity.
        noise: SD of the thermal noise of each channel (real, imaginary) in LV z-score units.
    Reference reader
        observer_border_mm: SD of the displacement of the reader's endo- and epicardial contours.
        observer_lesion_mm: the same for the borders of scar and edema.
        observer_extent: log-SD of the extent that the reader gives to scar and to edema.
    """

    spacing_mm: float = 0.75
    matrix: int = 192
    slices: tuple[int, int] = (2, 6)
    slice_distance_mm: tuple[float, float] = (12.0, 23.0)
    slice_thickness_mm: float = 8.0
    separate_grids: bool = False
    motion_mm: float = 0.0
    missing_probability: float = 0.0
    region: RegionKind = "lv"
    healthy_share: float = 0.0
    chronic_share: float = 0.0
    mvo_share: float = 0.2
    wall_thinning: float = 0.4
    psir: bool = False
    contrast_spread: tuple[float, float, float, float] = (1.0, 0.6, 1.5, 0.5)
    width_spread: float = 0.05
    slice_spread: float = 0.15
    tails: float = 0.9
    psf_mm: float = 0.75
    shading: float = 0.05
    noise: float = 0.1
    observer_border_mm: float = 0.5
    observer_lesion_mm: float = 1.0
    observer_extent: float = 0.1


_MYOPS_LIKE = PhantomConfig()

PRESETS: dict[str, PhantomConfig] = {
    # as hard as the real training studies of MyoPS 2020; frozen, see docs/phantom.md
    "myops-like": _MYOPS_LIKE,
    # the same hearts, scanner and reader, and nobody with an infarct
    "healthy": replace(_MYOPS_LIKE, healthy_share=1.0),
    # what a clinic sends: also patients without infarct and with an old one
    "cohort": replace(_MYOPS_LIKE, healthy_share=0.1, chronic_share=0.2),
    # everything that can go wrong at the scanner
    "hard-acquisition": replace(
        _MYOPS_LIKE,
        healthy_share=0.1,
        chronic_share=0.2,
        separate_grids=True,
        motion_mm=3.0,
        missing_probability=0.15,
        shading=0.15,
    ),
    # quick studies for demonstrations and tests
    "small": replace(
        _MYOPS_LIKE,
        spacing_mm=1.5,
        matrix=80,
        slices=(3, 3),
        slice_distance_mm=(10.0, 10.0),
        healthy_share=0.1,
    ),
    # a modern stack of thin slices that covers the ventricle
    "thin-slices": replace(_MYOPS_LIKE, slices=(8, 12), slice_distance_mm=(6.0, 8.0), slice_thickness_mm=6.0),
}


def preset_hash(config: PhantomConfig) -> str:
    """Short SHA-256 of a configuration together with the calibrated tables that it draws on."""
    content = json.dumps([asdict(config), tables.as_dict()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
