"""One mixture for all studies that are predicted together: `em-gmm --set scope=cohort`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import torch

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.mixture import PARTIAL_SUMS, AddUp, Mixture, StudyVoxels


class VoxelFile:
    """Voxels of studies in a file, to go over them often without reading the studies again.

    Args:
        file: open for writing and reading bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._positions: list[int] = []

    def add(self, position: int, voxels: StudyVoxels) -> None:
        """Append a study."""
        for values in (voxels.x.float(), voxels.observed, voxels.region.to(torch.uint8)):
            np.save(self._file, values.numpy(), allow_pickle=False)
        self._positions.append(position)

    def __iter__(self) -> Iterator[tuple[int, StudyVoxels]]:
        """The studies with their places in the cohort, one at a time in memory."""
        self._file.seek(0)
        for position in self._positions:
            x, observed, region = (
                torch.from_numpy(np.load(self._file, allow_pickle=False)) for _ in range(3)
            )
            yield position, StudyVoxels(x.double(), observed, region.long())


def voxels_of_all_sequences(study: StudyTensors) -> StudyVoxels:
    """The region's voxels of a study, 0 (its mean) where a sequence was not acquired."""
    inside = study.region > 0
    observed = study.observed[:, inside].T & study.present
    return StudyVoxels(torch.where(observed, study.voxels, 0.0), observed, study.region[inside].long())


def start_of_first(
    studies: VoxelFile, start: Callable[[StudyVoxels], Mixture], shape: tuple[int, int], add_up: AddUp
) -> Mixture | None:
    """The start that the cohort's first study gives, whichever process has it; None without any study.

    Args:
        studies: of this process.
        start: first mixture of a study.
        shape: (K, C) of the mixture.
        add_up: as `StudySums.collect` takes it; every process has to make the call.
    """
    K, C = shape
    sizes = [K, K * C, K * C * C]
    rows = np.zeros((PARTIAL_SUMS, 1 + sum(sizes)))
    first = next(iter(studies), None)
    if first is not None:
        position, voxels = first
        mixture = start(voxels)
        flat = torch.cat([part.flatten() for part in (mixture.weights, mixture.means, mixture.covariances)])
        rows[position % PARTIAL_SUMS] = [position + 1, *flat.tolist()]
    rows = add_up(rows)
    rows = rows[rows[:, 0] > 0]
    if len(rows) == 0:
        return None
    weights, means, covariances = torch.from_numpy(rows[rows[:, 0].argmin(), 1:]).split(sizes)
    return Mixture(weights, means.reshape(K, C), covariances.reshape(K, C, C))
