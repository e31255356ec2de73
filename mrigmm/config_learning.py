"""Every knob of `mrigmm train` from the pretrained networks on, typed and validated.

Imports no torch, so that `mrigmm info` stays instant.
"""

from __future__ import annotations

from pydantic import Field

from mrigmm.settings_yaml import Knobs


class _Calibration(Knobs):
    """What all such trainings share."""

    calibrated_on: int = Field(
        6,
        ge=0,
        description="Simulated studies of each of six kinds that the verdicts of the networks are calibrated "
        "on afterwards; 0: they keep those of the start.",
    )


class LabelsConfig(_Calibration):
    """Configuration of the training of pretrained networks on labels."""

    seed: int = Field(0, ge=0, lt=2**32, description="Draws slices, changes and who is held out.")
    steps: int = Field(600, ge=1, description="Steps of a segmenter.")
    batch: int = Field(8, ge=2, description="Slices per step, labelled and simulated.")
    simulated: int = Field(3, ge=0, description="Simulated slices among them, so that nothing is forgotten.")
    learning_rate: float = Field(1e-3, gt=0, description="Highest of the one-cycle schedule.")
    average_decay: float = Field(0.99, ge=0, lt=1, description="Of the moving average of the weights.")
    held_out_share: float = Field(0.2, gt=0, le=0.5, description="Labelled patients that choose the weights.")


class AdaptConfig(_Calibration):
    """Configuration of the adaptation of pretrained networks to a cohort, without labels."""

    seed: int = Field(0, ge=0, lt=2**32, description="Draws the simulated studies.")
    pool: int = Field(200, ge=20, description="Simulated studies that figures are told from knobs by.")
    steps: int = Field(200, ge=1, description="Steps of a segmenter.")
    batch: int = Field(8, ge=2, description="Slices per step.")
    rehearsed: int = Field(
        4, ge=0, description="Of the pretraining's ranges among them: nothing is forgotten."
    )
    learning_rate: float = Field(3e-4, gt=0, description="Highest of the one-cycle schedule.")
    average_decay: float = Field(0.99, ge=0, lt=1, description="Of the moving average of the weights.")
    judged: int = Field(32, ge=2, description="Fresh simulated studies of either kind that judge it.")
    measured: int = Field(12, ge=1, description="Studies of the cohort at most for NLL_V.")
    most_lost: float = Field(0.005, ge=0, description="Dice that it may lose on the pretraining's ranges.")
    most_risen: float = Field(0.0, ge=0, description="By how much the cohort's NLL_V may rise.")
