"""Simulated cohorts with known truth."""

from mrigmm.phantom.cohort import simulate_cohort
from mrigmm.phantom.config import PRESETS, PhantomConfig, preset_hash
from mrigmm.phantom.study import SimulatedStudy, TrueMixture, simulate_study

__all__ = [
    "PRESETS",
    "PhantomConfig",
    "SimulatedStudy",
    "TrueMixture",
    "preset_hash",
    "simulate_cohort",
    "simulate_study",
]
