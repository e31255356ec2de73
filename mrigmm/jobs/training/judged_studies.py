"""Simulated studies that pretrained networks segmented, and what is true of them: verdicts learn from it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.manifest import Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.evaluation.overlap import overlap
from mrigmm.labels import Region
from mrigmm.methods.anatomy import load_found
from mrigmm.methods.base import Task
from mrigmm.methods.decision import decide
from mrigmm.methods.network_finder import NetworkFinder
from mrigmm.methods.pretrained import PretrainedMethod, Solved
from mrigmm.methods.study_views import what_is_given
from mrigmm.phantom import simulate_cohort

CLASSES = ("blood", "myocardium", "edema", "scar")
LGE = ("LGE",)
# Which region is given, and of which sequences; None: all.
PROTOCOLS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "nothing": ("nothing", None),
    "ventricle": ("ventricle", None),
    "wall": ("wall", None),
    "LGE alone, nothing": ("nothing", LGE),
    "LGE alone, ventricle": ("ventricle", LGE),
    "LGE alone, wall": ("wall", LGE),
}


@dataclass(frozen=True)
class Judged:
    """A labelled study, segmented under one protocol.

    Attributes:
        id: of the study.
        protocol: name in `PROTOCOLS`.
        label: (X, Y, Z) the truth: rows of `CLASSES`; other values: no part of the left ventricle.
        tensors: the study in the region that was found or given.
        solved: its segmentation; None where it was refused.
        refused: why it was refused, or "".
    """

    id: str
    protocol: str
    label: Tensor
    tensors: StudyTensors | None
    solved: Solved | None
    refused: str = ""

    def row(self) -> dict[str, Any]:
        """Return features, voxel counts and Dice as plain values."""
        label = self.label.numpy()
        inside_lv = (label >= 0) & (label < len(CLASSES))
        true_scar, true_wall = label == CLASSES.index("scar"), inside_lv & (label > 0)
        row = {
            "study": self.id,
            "protocol": self.protocol,
            "true_voxels": int(true_scar.sum()),
            "lv_voxels": int(inside_lv.sum()),
        }
        if self.solved is None or self.tensors is None:
            return {**row, "refused": self.refused}
        called = decide(self.solved.resp, CLASSES).numpy()
        inside = (self.tensors.region > 0).numpy()
        scar = inside & (called == CLASSES.index("scar"))
        return {
            **row,
            "features": self.solved.features,
            "found_voxels": int(scar.sum()),
            "scar_dice": dice(scar, true_scar),
            "wall_dice": dice(inside & (called >= 1), true_wall),
            "voxel_ml": self.tensors.output.grid.voxel_volume_ml,
        }


def judge_simulated(
    preset: str,
    n_studies: int,
    seed: int,
    *,
    protocols: Collection[str] = (*PROTOCOLS,),
    networks: Path | None = None,
    device: str = "cpu",
) -> Iterator[Judged]:
    """Simulate a cohort and segment its studies under several protocols.

    Args:
        preset: of the phantom.
        n_studies: number of studies.
        seed: of the simulation.
        protocols: of `PROTOCOLS`; LGE alone is left out where there is nothing else.
        networks: folder of the networks; None: those that ship.
        device: where they are computed.
    """
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / preset
        simulate_cohort(out, n_studies=n_studies, seed=seed, preset=preset, region="cavity-wall")
        cohort = read_manifest(out / "manifest.json")
        task = Task(CLASSES, tuple(cohort.sequences), None, device=torch.device(device))
        method = PretrainedMethod(task, {"networks": networks})
        finder = NetworkFinder(device, networks)
        for study in cohort.split("all"):
            yield from _judge(study, cohort.labels, protocols, method, finder)


def _judge(
    study: Study,
    labels: Mapping[str, Sequence[int]],
    protocols: Collection[str],
    method: PretrainedMethod,
    finder: NetworkFinder,
) -> Iterator[Judged]:
    sequences = method.task.sequences
    truth = load_study(study, sequences, CLASSES, labels=labels, with_label=True).label
    assert truth is not None
    for protocol in protocols:
        region, names = PROTOCOLS[protocol]
        if names is not None and {*names} == {*study.images}:
            continue  # the same as with all sequences
        images = {n: file for n, file in study.images.items() if names is None or n in names}
        given = Study(study.id, images, None if region == "nothing" else study.region)
        try:
            tensors = load_found(given, sequences, CLASSES, finder, labels=labels)
            if region == "ventricle":
                ventricle = (tensors.region > 0).to(torch.uint8) * int(Region.LV)
                tensors = replace(tensors, region=ventricle)
            given_kind = what_is_given(tensors)
            tensors = method.divided(tensors)
            solved = method.solve(tensors, given_kind)
        except InputError as error:
            yield Judged(study.id, protocol, truth, None, None, str(error).splitlines()[0])
        else:
            yield Judged(study.id, protocol, truth, tensors, solved)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    """Return the Dice of two masks, None where both are empty."""
    value = overlap(a, b, 1.0).dice
    return None if math.isnan(value) else value
