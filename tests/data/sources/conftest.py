"""Miniature copies of the data sets' folders: tiny oblique studies under the names of the downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import mrigmm
from mrigmm.data.manifest import Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import load_study

from ...conftest import intensities, oblique_affine, save_nifti, ventricle

# Voxels of the disc of blood and of the ring's parts, all three slices together.
BLOOD, MYOCARDIUM, EDEMA, SCAR = (int(n) for n in np.bincount(ventricle().ravel())[1:])
WALL = MYOCARDIUM + EDEMA + SCAR


@dataclass(frozen=True)
class Tree:
    """Writes files below a folder."""

    folder: Path

    def image(self, *files: str, sequence: str = "LGE") -> None:
        for seed, file in enumerate(files):
            save_nifti(self.folder / file, intensities(ventricle(), sequence, seed), oblique_affine())

    def label(self, *files: str, ids: Sequence[int]) -> None:
        """`ids`: of background, blood, myocardium, edema and scar; a corner is the right ventricle's."""
        for file in files:
            label = np.array(ids[:5], dtype=np.int16)[ventricle()]
            if len(ids) > 5:
                label[0, 0] = ids[5]
            save_nifti(self.folder / file, label, oblique_affine())

    def text(self, file: str, text: str = "") -> None:
        (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / file).write_text(text)


@dataclass(frozen=True)
class Read:
    """A manifest as training and evaluation read it."""

    splits: Mapping[str, list[str]]
    studies: Mapping[str, Study]
    # Study -> class -> voxels, of the studies with a label.
    counts: Mapping[str, Mapping[str, int]]
    notes: list[str]


def read(result: mrigmm.jobs.manifest.Written) -> Read:
    """Read a written manifest strictly, and every study with a region to the end."""
    cohort = read_manifest(result.manifests[0], result.data_root)
    counts = {}
    for study in cohort.split("all"):
        if study.label is not None:
            tensors = load_study(
                study, cohort.sequences, cohort.classes, labels=cohort.labels, with_label=True
            )
            inside = tensors.label[tensors.region > 0]
            counts[study.id] = {name: int((inside == i).sum()) for i, name in enumerate(cohort.classes)}
    return Read(
        {name: [s.id for s in studies] for name, studies in cohort.splits.items() if studies},
        {study.id: study for study in cohort.split("all")},
        counts,
        [problem.what for problem in result.problems],
    )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "download")
