"""Knobs of the phantom and the named presets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Literal

from mrigmm.phantom import second_centre, tables

SEQUENCES = ("LGE", "T2", "bSSFP")
REFERENCE_SEQUENCE = "LGE"  # its grid carries the region and the label map; it is never missing

RegionKind = Literal["lv", "cavity-wall"]
Centre = Literal["first", "second"]

# A knob that came after presets were frozen: at its neutral value their hashes don't see it.
_LATER = {"later": True}


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
        dealt: the kinds of infarct are dealt in turn instead of drawn, so that the first N studies have
        N times each share, however few they are.
        centre: whose population figures are drawn from: "first" (MyoPS 2020), or "second" (EMIDEC), which
        are of LGE alone and know no edema; its T2 and bSSFP would be those of the first.
        radius_factor: on the radii of both ventricles. wall_factor: on the thickness of the wall.
        wall_thinning: relative loss of wall thickness in the middle of a chronic scar.
    Appearance
        psir: phase-sensitive LGE, in which normal wall and lung are negative.
        contrast_spread: between-study spread of the means of blood, myocardium, edema and scar;
        1 = as tabulated.
        width_spread: log-SD over studies of the within-class SD.
        slice_spread: SD of a slice's class mean about the study's, in within-class SD.
        tails: 0 = Gaussian residuals, 1 = the log-normal ones that a non-negative signal of the
        tabulated mean and SD would have; above 1 heavier still.
        contrast: factor on the distances of the class means from their middle, in every sequence.
        blood_to_scar: how far the LGE mean of blood goes towards that of scar; 1 = as bright.
        psf_mm: SD of the in-plane point spread. shading: relative SD of the coil's sensitivity.
        noise: SD of the thermal noise of each channel (real, imaginary) in LV z-score units.
        apex_noise: factor on it in the lowest slice; the slices from the base to there lie between.
        slice_drift: how much slices of one sequence differ: log-SD of their contrast, SD of their offset
        (LV z-score units), and SD of the shading of their own, which adds to that of the coil.
        ghost: mean strength, relative to the signal, of a copy shifted along y (see `effects.add_ghost`).
        smoothing_mm: SD of a Gaussian reconstruction filter. sharpening: how much of what a Gaussian of
        1 mm would take away a filter adds instead. kspace_share: share of k-space along each image axis
        that is acquired; the rest is filled with zeros, so that edges ring.
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
    dealt: bool = field(default=False, metadata=_LATER)
    centre: Centre = field(default="first", metadata=_LATER)
    radius_factor: float = field(default=1.0, metadata=_LATER)
    wall_factor: float = field(default=1.0, metadata=_LATER)
    wall_thinning: float = 0.4
    psir: bool = False
    contrast_spread: tuple[float, float, float, float] = (1.0, 0.6, 1.5, 0.5)
    width_spread: float = 0.05
    slice_spread: float = 0.15
    tails: float = 0.9
    contrast: float = field(default=1.0, metadata=_LATER)
    blood_to_scar: float = field(default=0.0, metadata=_LATER)
    psf_mm: float = 0.75
    shading: float = 0.05
    noise: float = 0.1
    apex_noise: float = field(default=1.0, metadata=_LATER)
    slice_drift: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), metadata=_LATER)
    ghost: float = field(default=0.0, metadata=_LATER)
    smoothing_mm: float = field(default=0.0, metadata=_LATER)
    sharpening: float = field(default=0.0, metadata=_LATER)
    kspace_share: float = field(default=1.0, metadata=_LATER)
    observer_border_mm: float = 0.5
    observer_lesion_mm: float = 1.0
    observer_extent: float = 0.1


_MYOPS_LIKE = PhantomConfig()

# What the cohorts that methods are judged on have in common: a quarter of the studies without infarct, some
# old infarcts, and slices that differ in contrast, offset and shading as those of real stacks do.
_SHIFTED = replace(
    _MYOPS_LIKE, healthy_share=0.25, chronic_share=0.15, dealt=True, slice_drift=(0.15, 0.2, 0.1)
)

# Judged on, never trained on; each differs from `myops-like` in what its name says.
SHIFTED: dict[str, PhantomConfig] = {
    # LGE alone by the population figures of another centre: a third without infarct, MVO in 60 % of infarcts
    "second-centre": replace(
        _SHIFTED,
        centre="second",
        missing_probability=1.0,
        healthy_share=1 / 3,
        chronic_share=0.0,
        mvo_share=0.95,  # of the infarcts that are large enough for a core
        spacing_mm=1.4,
        matrix=104,
        slices=(5, 9),
        slice_distance_mm=(8.0, 12.0),
        wall_factor=0.75,
        contrast_spread=(1.0, 1.4, 1.4, 0.6),
        psf_mm=1.0,
    ),
    # class means 40 % closer
    "low-contrast": replace(_SHIFTED, contrast=0.6),
    # twice the noise, and twice that at the apex
    "noisy": replace(_SHIFTED, noise=0.2, apex_noise=2.0),
    # large voxels
    "coarse": replace(
        _SHIFTED,
        spacing_mm=1.8,
        matrix=80,
        slices=(5, 7),
        slice_distance_mm=(10.0, 10.0),
        slice_thickness_mm=10.0,
        psf_mm=1.2,
    ),
    # small voxels
    "fine": replace(
        _SHIFTED,
        spacing_mm=0.6,
        matrix=240,
        slices=(12, 12),
        slice_distance_mm=(5.0, 6.0),
        slice_thickness_mm=5.0,
        psf_mm=0.6,
    ),
    # dilated and hypertrophic ventricles
    "thin-wall": replace(_SHIFTED, radius_factor=1.1, wall_factor=0.6),
    "thick-wall": replace(_SHIFTED, wall_factor=1.45),
    # LGE taken at a time at which blood is as bright as scar
    "bright-blood": replace(_SHIFTED, blood_to_scar=1.0),
    # phase-sensitive LGE
    "psir": replace(_SHIFTED, psir=True),
    # slices of T2 and bSSFP displaced by 3 mm on average
    "motion": replace(_SHIFTED, motion_mm=6.0),
    # copies of the picture along the phase-encoding direction
    "ghosts": replace(_SHIFTED, ghost=0.25),
    # reconstruction filters; without one the edges ring
    "smooth-kernel": replace(_SHIFTED, smoothing_mm=1.8),
    "sharp-kernel": replace(_SHIFTED, psf_mm=0.3, sharpening=1.0, kspace_share=0.55),
    # residuals far beyond what is calibrated
    "heavy-tails": replace(_SHIFTED, tails=1.8),
}

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
    **SHIFTED,
}


def preset_hash(config: PhantomConfig) -> str:
    """Short SHA-256 of a configuration together with the calibrated tables that it draws on."""
    knobs = asdict(config)
    for knob in fields(config):
        if knob.metadata.get("later") and knobs[knob.name] == knob.default:
            del knobs[knob.name]
    drawn = tables.as_dict() | (second_centre.as_dict() if config.centre == "second" else {})
    content = json.dumps([knobs, drawn], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
