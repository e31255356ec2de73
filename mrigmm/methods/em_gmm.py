"""EM on the intensities alone: `em-gmm`, `em-svgmm`, `map-em`.

The methods, and `em_gmm_sklearn.py`, differ in the mixture that they fit; how a study is taken apart and put
together is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.methods.base import (
    Segmentation,
    SettableMethod,
    Task,
    brightness_order,
    hard_labels,
    present_sequences,
    stacked,
    unpack,
)
from mrigmm.methods.clusters import naming_note
from mrigmm.methods.em_start import Voxels, require_voxels, starting_mixture, study_voxels
from mrigmm.methods.settings import EMSettings, MapEMSettings, MixtureSettings, StudyEMSettings
from mrigmm.mixture import (
    PARTIAL_SUMS,
    AddUp,
    EMResult,
    Mixture,
    PooledFit,
    PopulationPrior,
    StudyVoxels,
    classify,
    fit_gmm,
    fit_gmm_pooled,
    fit_svgmm,
)

# A slice with fewer voxels per class cannot carry a mixture of its own.
MIN_VOXELS_PER_CLASS = 10


class EMGMM(SettableMethod[MixtureSettings]):
    """EM for a Gaussian mixture, maximum likelihood, in the package's own core."""

    name = "em-gmm"
    settings_type: type[MixtureSettings] = EMSettings

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        self._pooled: PooledFit | None = None  # None before `fit_cohort`

    @property
    def _order_by(self) -> tuple[str, ...] | None:
        return self.settings.order_by if isinstance(self.settings, EMSettings) else None

    @property
    def wants_cohort(self) -> bool:
        """Whether one mixture is to serve all studies."""
        return self.settings.scope == "cohort"

    def fit_cohort(self, studies: Callable[[], Iterator[StudyTensors]]) -> None:
        """Fit one mixture to all studies, of which one at a time is in memory."""
        self.fit_shared(enumerate(studies()), lambda sums: sums)

    def fit_shared(self, studies: Iterable[tuple[int, StudyTensors]], add_up: AddUp) -> None:
        """The same with studies that several processes share, to the same bit; see `mixture.fit_gmm_pooled`.

        It starts at the population's mixture where that is known, else at k-means of the first study. Without
        any study nothing is learned, and each study is refused.

        Raises:
            InputError: no room for the voxels.
        """
        try:
            with TemporaryFile() as file:
                fit = self._pooled_fit(VoxelFile(file), studies, add_up)
        except OSError as error:
            raise InputError(
                "the voxels of the cohort cannot be kept in a temporary file",
                file=gettempdir(),
                expected="a folder with write permission and free space",
                got=error.strerror or str(error),
                remedy="name another folder with the environment variable TMPDIR",
            ) from None
        if fit is not None and self.task.prior is None:
            order = self._by_brightness(fit.mixture, self.task.sequences, fit.region_counts.nonzero()[:, 0])
            fit = replace(fit, mixture=fit.mixture.permute(order))
        self._pooled = fit

    def _pooled_fit(
        self, voxels: VoxelFile, studies: Iterable[tuple[int, StudyTensors]], add_up: AddUp
    ) -> PooledFit | None:
        for position, study in studies:
            found = voxels_of_all_sequences(study)
            if len(found.x) >= len(self.task.classes):  # others are refused when they are due
                voxels.add(position, found)

        start = start_of_first(
            voxels,
            lambda first: self._first(Voxels(first.x, None, first.region), self.task.prior),
            (len(self.task.classes), len(self.task.sequences)),
            add_up,
        )
        if start is None:
            return None
        return fit_gmm_pooled(
            voxels,
            start.to(device=self.task.device),
            allowed=self.task.allowed,
            covariance=self.settings.covariance,
            max_iter=self.settings.max_iter,
            tol=self.settings.tolerance,
            variance_floor=self.settings.variance_floor,
            add_up=add_up,
        )

    def segment(self, study: StudyTensors) -> Segmentation:
        """Fit the mixture(s) of one study and label by the posterior."""
        sequences = present_sequences(study)
        voxels = study_voxels(study, self.task.device)
        n_voxels, n_classes = len(voxels.x), len(self.task.classes)
        require_voxels(study, n_voxels, self.task)
        prior = None if self.task.prior is None else self.task.prior.select(sequences=sequences)

        fits: list[tuple[Tensor, EMResult]] = []
        small: list[Tensor] = []
        for members in self._groups(study):
            enough = len(members) >= MIN_VOXELS_PER_CLASS * n_classes or len(members) == n_voxels
            if enough:
                fits.append((members, self._fit_named(voxels.part(members), sequences, prior)))
            else:
                small.append(members)
        notes = list(self._notes([result for _, result in fits]))
        if small:
            whole = self._fit_named(voxels, sequences, prior)
            fits += [
                (m, replace(whole, resp=whole.resp[m], log_likelihood=whole.log_likelihood[m])) for m in small
            ]
            notes.append(f"{len(small)} slices are too small for a mixture of their own: the study's is used")

        resp = voxels.x.new_zeros((n_voxels, n_classes))
        log_likelihood = voxels.x.new_zeros((n_voxels, 1))
        for members, result in fits:
            resp[members] = result.resp.to(resp.dtype)
            log_likelihood[members, 0] = result.log_likelihood.to(resp.dtype)
        resp_maps = unpack(resp.float().cpu(), study.region)
        return Segmentation(
            resp=resp_maps,
            labels=hard_labels(resp_maps, study.region, self.task.classes),
            mixture=stacked([result.mixture for _, result in fits]),
            sequences=sequences,
            log_likelihood=unpack(log_likelihood.float().cpu(), study.region)[0],
            n_iter=max(result.n_iter for _, result in fits),
            converged=all(result.converged for _, result in fits),
            details={} if self._pooled is None else {"cohort_studies": self._pooled.n_studies},
            warnings=tuple(notes),
        )

    def fit(self, voxels: Voxels, start: Mixture, prior: PopulationPrior | None) -> EMResult:
        """Fit one mixture."""
        return fit_gmm(start=start, **self._options(voxels))

    def _options(self, voxels: Voxels) -> dict[str, Any]:
        return {
            "x": voxels.x,
            "observed": voxels.observed,
            "region": voxels.region,
            "covariance": self.settings.covariance,
            "allowed": self.task.allowed,
            "max_iter": self.settings.max_iter,
            "tol": self.settings.tolerance,
            "variance_floor": self.settings.variance_floor,
        }

    def _fit_named(
        self, voxels: Voxels, sequences: tuple[str, ...], prior: PopulationPrior | None
    ) -> EMResult:
        if self.wants_cohort:
            return self._of_cohort(voxels, sequences)
        result = self.fit(voxels, self._first(voxels, prior), prior)
        if prior is not None:  # components keep the class they were started at
            return result
        order = self._by_brightness(result.mixture, sequences, voxels.region.unique())
        return replace(result, mixture=result.mixture.permute(order), resp=result.resp[:, order])

    def _by_brightness(self, mixture: Mixture, sequences: tuple[str, ...], codes: Tensor) -> list[int]:
        """Order of the components of region codes that occur, where no prior knows the classes."""
        order_by = self._order_by or self.task.order_by
        return brightness_order(mixture, sequences, order_by, allowed=self.task.allowed[codes])

    def _first(self, voxels: Voxels, prior: PopulationPrior | None) -> Mixture:
        """Return what EM starts from."""
        return starting_mixture(
            voxels,
            self.task,
            prior,
            covariance=self.settings.covariance,
            variance_floor=self.settings.variance_floor,
            seed=self.settings.seed if isinstance(self.settings, EMSettings) else 0,
        )

    def _of_cohort(self, voxels: Voxels, sequences: tuple[str, ...]) -> EMResult:
        """The cohort's mixture on the voxels of a study."""
        if self._pooled is None:
            raise InputError(
                f"{self.name} with scope=cohort has learned from no study",
                remedy="use mrigmm predict, or scope=study",
            )
        mixture = self._pooled.mixture.channels([self.task.sequences.index(name) for name in sequences])
        seen = torch.ones_like(voxels.x, dtype=torch.bool) if voxels.observed is None else voxels.observed
        resp, evidence = classify(StudyVoxels(voxels.x, seen, voxels.region), mixture, self.task.allowed)
        bounds = self._pooled.lower_bounds
        return EMResult(mixture, resp, bounds, self._pooled.converged, len(bounds), evidence)

    def _groups(self, study: StudyTensors) -> Iterator[Tensor]:
        """Indices of the packed voxels that share a mixture."""
        slice_of_voxel = study.region.nonzero()[:, 2].to(self.task.device)  # (N,)
        if self.settings.scope != "slice":
            yield torch.arange(len(slice_of_voxel), device=self.task.device)
            return
        for z in slice_of_voxel.unique():
            yield (slice_of_voxel == z).nonzero()[:, 0]

    def _notes(self, results: list[EMResult]) -> Iterator[str]:
        stopped = sum(not result.converged for result in results)
        if stopped:
            yield f"{stopped} of {len(results)} fits stopped at {self.settings.max_iter} iterations"
        yield from naming_note(self.task, self._order_by)


class EMSVGMM(EMGMM):
    """EM for the spatially variant mixture: each voxel's weights are its last responsibilities."""

    name = "em-svgmm"
    settings_type = StudyEMSettings

    def fit(self, voxels: Voxels, start: Mixture, prior: PopulationPrior | None) -> EMResult:
        """Fit one spatially variant mixture."""
        return fit_svgmm(start=start, **self._options(voxels))


class MapEM(EMGMM):
    """MAP-EM with a Normal-inverse-Wishart and Dirichlet prior from the population."""

    name = "map-em"
    settings_type = MapEMSettings

    def fit(self, voxels: Voxels, start: Mixture, prior: PopulationPrior | None) -> EMResult:
        """Fit one MAP mixture."""
        assert prior is not None
        assert isinstance(self.settings, MapEMSettings)
        x = voxels.x
        map_prior = prior.map_prior(self.settings.prior_strength, dtype=x.dtype, device=x.device)
        return fit_gmm(start=start, prior=map_prior, **self._options(voxels))


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
