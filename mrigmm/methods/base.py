"""The interface of every method, and what they share: packing voxels and naming components."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from mrigmm.data.priors.prior_file import MultiscalePrior
from mrigmm.data.standardise import REGION_ZSCORE, UNITS
from mrigmm.data.study_tensors import StudyTensors, packed
from mrigmm.labels import allowed_classes, class_ids
from mrigmm.methods.settings import MethodSettings, require_sequences, validated_settings
from mrigmm.mixture import (
    VARIANCE_FLOOR,
    AddUp,
    Covariance,
    MapPrior,
    Mixture,
    PopulationPrior,
    expected_statistics,
    log_gaussian,
    log_gaussian_observed,
    log_likelihood,
    m_step,
    order_by_channels,
    region_log_prior,
    statistics,
)

if TYPE_CHECKING:
    from mrigmm.config import RunConfig
    from mrigmm.data.run_folder import RunRecord
    from mrigmm.networks.deep_gmm import DeepGMM
    from mrigmm.networks.spatial_prior import SpatialPrior

# Maps that a segmentation may have beside the responsibilities, each a result file of its own.
AGREEMENT = "agreement"
EXTRA_MAPS = (AGREEMENT,)
# Maps of how sure a segmentation is, which every method has.
ENTROPY, LOG_LIKELIHOOD = "entropy", "log_likelihood"
UNCERTAINTY_MAPS = (ENTROPY, LOG_LIKELIHOOD)

# Passes in which the expectation of missing values settles.
_EXPECTATION_STEPS = 5


@dataclass(frozen=True)
class Task:
    """Task of a method: classes, sequences, and what is known about them beforehand.

    Attributes:
        classes: K class names.
        sequences: C sequence names, the channels of every study.
        prior: population prior for these classes and sequences, or None.
        multiscale: prior of the wall's classes for smoothed intensities, where the prior has that part.
        crop_prior: the prior in crop z-score units; only with the shipped prior.
        order_by: sequences whose brightness orders the components where there is no prior.
        device: where tensors are computed.
        seed: seeds every random start.
    """

    classes: tuple[str, ...]
    sequences: tuple[str, ...]
    prior: PopulationPrior | None
    multiscale: MultiscalePrior | None = None
    crop_prior: PopulationPrior | None = None
    order_by: tuple[str, ...] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0

    @property
    def allowed(self) -> Tensor:
        """(R, K) classes that each `labels.Region` code allows."""
        return torch.tensor(allowed_classes(self.classes), dtype=torch.bool, device=self.device)


@dataclass(frozen=True)
class Segmentation:
    """A segmented study, on the array of its `StudyTensors`.

    Attributes:
        resp: (K, X, Y, Z) float32 class responsibilities, sum 1 inside the region, 0 outside.
        labels: (X, Y, Z) uint8 class ids (`labels.class_ids`), 0 outside the region.
        mixture: weights (S, K), means (S, K, C'), covariances (S, K, C', C'); S = 1, or one per slice.
            C' are the sequences that the study has.
        sequences: names of those C' sequences.
        log_likelihood: (X, Y, Z) float32 log density per voxel under the mixture, 0 outside.
        n_iter: iterations of the fit (0 for a network's single pass).
        converged: whether the fit reached its tolerance.
        details: further figures of the method for the side file.
        warnings: what the user should know.
        units: of means and covariances, as a user reads it.
        maps: further maps (X, Y, Z) float32 by name, out of `EXTRA_MAPS`; 0 outside the region.
        mvo: (X, Y, Z) bool, microvascular obstruction, which `labels` call scar; None: not looked for.
        rv: (X, Y, Z) bool, blood of the right ventricle, outside the region; None: not looked for.
    """

    resp: Tensor
    labels: Tensor
    mixture: Mixture
    sequences: tuple[str, ...]
    log_likelihood: Tensor
    n_iter: int
    converged: bool
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    units: str = UNITS[REGION_ZSCORE]
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    mvo: Tensor | None = None
    rv: Tensor | None = None


class Method(Protocol):
    """Anything that segments a study."""

    name: str

    def segment(self, study: StudyTensors) -> Segmentation:
        """Segment one study; raises InputError when the study cannot be segmented this way."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings that reproduce the method, for the side file."""
        ...


S = TypeVar("S", bound=MethodSettings)


class SettableMethod(Generic[S]):
    """A method with settings (`--set`), which are all that it has to say of itself."""

    name: str
    settings_type: type[S]

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.task = task
        self.settings = validated_settings(self.name, self.settings_type, overrides)
        require_sequences(getattr(self.settings, "order_by", None), task.sequences)

    def describe(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return self.settings.model_dump(mode="json")


N = TypeVar("N", bound="SpatialPrior | DeepGMM")


class TrainedMethod(Generic[N]):
    """A finished run as a method: its network, its configuration, and what it was trained on."""

    def __init__(self, network: N, config: RunConfig, record: RunRecord, device: torch.device) -> None:
        self.network = network.to(device).eval()
        self.config = config
        self.record = record
        self.device = device

    def describe(self) -> dict[str, Any]:
        """Return the run's configuration, the versions that trained it, and what computes its network."""
        return {
            "config": self.config.model_dump(mode="json"),
            "trained_with": self.record.versions,
            "runtime": self.network.unet.runtime,
        }


@runtime_checkable
class CohortMethod(Method, Protocol):
    """A method that can learn from the whole cohort, without labels, before it segments its studies."""

    @property
    def wants_cohort(self) -> bool:
        """Whether its settings ask for that."""
        ...

    def fit_cohort(self, studies: Callable[[], Iterator[StudyTensors]]) -> None:
        """Learn from the studies; each call of `studies` reads all of them once more."""
        ...


@runtime_checkable
class SharedCohortMethod(CohortMethod, Protocol):
    """A method that learns from sums over the studies of a cohort, which several processes can share."""

    def fit_shared(self, studies: Iterable[tuple[int, StudyTensors]], add_up: AddUp) -> None:
        """Learn from the studies of all processes, each of which makes the call.

        Args:
            studies: this process's, with their places in the cohort, as `mixture.StudySums` takes them.
            add_up: adds up what the processes have.
        """
        ...


def present_sequences(study: StudyTensors) -> tuple[str, ...]:
    """Names of the sequences that the study has."""
    return tuple(
        name for name, present in zip(study.sequences, study.present.tolist(), strict=True) if present
    )


def unpack(values: Tensor, region: Tensor) -> Tensor:
    """Voxel values (N, M) back into maps (M, X, Y, Z) that are 0 outside the region."""
    maps = values.new_zeros((values.shape[1], region.numel()))
    maps[:, region.flatten().nonzero()[:, 0]] = values.T
    return maps.reshape(-1, *region.shape)  # (M, X * Y * Z) -> (M, X, Y, Z)


def hard_labels(resp: Tensor, region: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Class ids (X, Y, Z) uint8 of the most probable class, 0 outside the region."""
    ids = torch.tensor(list(class_ids(classes).values()), dtype=torch.uint8)
    # (N,) of the few voxels inside; numpy's argmax over few rows is six times quicker than torch's.
    most_probable = torch.from_numpy(packed(resp, region).numpy().argmax(axis=0))
    return unpack(ids[most_probable][:, None], region)[0]


def uncertainty_maps(result: Segmentation) -> dict[str, Tensor]:
    """Return how sure a segmentation is, voxel by voxel, by names out of `UNCERTAINTY_MAPS`.

    Returns:
        entropy: (X, Y, Z) float32 of the responsibilities in nats, from 0 (one class is certain) to ln K
            (all K classes are equally probable).
        log_likelihood: (X, Y, Z) float32 natural log density of the voxel's intensities under the study's
            mixture; low where no class explains them.
        Both are 0 outside the region.
    """
    return {
        ENTROPY: torch.special.entr(result.resp).sum(dim=0).clamp_min(0).float(),  # rounding: p > 1
        LOG_LIKELIHOOD: result.log_likelihood.float(),
    }


def responsible_mixture(
    x: Tensor,
    resp: Tensor,
    observed: Tensor | None,
    *,
    covariance: Covariance = "full",
    variance_floor: float = VARIANCE_FLOOR,
    prior: MapPrior | None = None,
) -> Mixture:
    """M-step for given responsibilities, with missing values replaced by their expectation.

    Args:
        x: (N, C').
        resp: (N, K).
        observed: (N, C') bool, or None when nothing is missing.
        covariance: form of the covariances.
        variance_floor: added to the variances.
        prior: MAP when given.
    """
    options: dict[str, Any] = {"covariance": covariance, "variance_floor": variance_floor, "prior": prior}
    mixture = m_step(statistics(x, resp), **options)
    if observed is None:
        return mixture
    for _ in range(_EXPECTATION_STEPS):
        expected = expected_statistics(x, resp, mixture.means, mixture.covariances, observed)
        mixture = m_step(expected, **options)
    return mixture


def class_log_density(x: Tensor, mixture: Mixture, observed: Tensor | None) -> Tensor:
    """Log N(x | class k) (N, K) of what was observed."""
    if observed is None:
        return log_gaussian(x, mixture.means, mixture.covariances)
    return log_gaussian_observed(x, mixture.means, mixture.covariances, observed)


def one_mixture(
    study: StudyTensors, region: Tensor, resp: Tensor, classes: tuple[str, ...]
) -> tuple[Mixture, Tensor]:
    """The study's full-covariance mixture that goes with given responsibilities.

    For methods whose own model is another one, so that every `Segmentation` describes its classes
    in the same terms.

    Args:
        study: the study.
        region: (X, Y, Z) region codes that the responsibilities were made with.
        resp: (K, X, Y, Z), 0 outside the region.
        classes: K class names.

    Returns:
        Mixture with one entry: weights (1, K), means (1, K, C'); and log density (X, Y, Z).
    """
    inside = region > 0
    x, observed = replace(study, region=region).present_voxels()
    mixture = responsible_mixture(x, packed(resp, region).T, observed)
    allowed = torch.tensor(allowed_classes(classes), dtype=torch.bool)
    log_prior = region_log_prior(mixture.weights, allowed, region[inside].long())
    density = log_likelihood(log_prior, class_log_density(x, mixture, observed))
    return stacked([mixture]), unpack(density[:, None].float(), region)[0]


def stacked(mixtures: Sequence[Mixture]) -> Mixture:
    """Return S mixtures as one with a leading axis (S, ...)."""
    weights, means, covariances = zip(*((m.weights, m.means, m.covariances) for m in mixtures), strict=True)
    return Mixture(torch.stack(weights), torch.stack(means), torch.stack(covariances))


def segmentation_of(
    study: StudyTensors,
    resp: Tensor,
    classes: tuple[str, ...],
    *,
    region: Tensor | None = None,
    n_iter: int,
    converged: bool = True,
    details: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Segmentation:
    """Return the segmentation by responsibilities, with the mixture that goes with them.

    Args:
        study: the study.
        resp: (K, X, Y, Z), 0 outside the region.
        classes: K class names.
        region: (X, Y, Z) region codes that the responsibilities were made with; None: the study's.
        n_iter: iterations of the method's own fit.
        converged: whether that settled.
        details: for the side file.
        warnings: what the user should know.
    """
    region = study.region if region is None else region
    mixture, density = one_mixture(study, region, resp, classes)
    return Segmentation(
        resp=resp,
        labels=hard_labels(resp, region, classes),
        mixture=mixture,
        sequences=present_sequences(study),
        log_likelihood=density,
        n_iter=n_iter,
        converged=converged,
        details=dict(details or {}),
        warnings=tuple(warnings),
    )


def brightness_order(
    mixture: Mixture,
    sequences: tuple[str, ...],
    order_by: tuple[str, ...] | None,
    *,
    allowed: Tensor | None = None,
) -> list[int]:
    """Order of components by rising brightness, for classes that no prior knows.

    Args:
        mixture: one mixture, means (K, C').
        sequences: names of its C' sequences.
        order_by: sequences to sum; those that the study lacks are left out, and all sequences are
            summed when none remains.
        allowed: (R, K) bool, the components that each region code of the study allowed in the fit;
            only components of the same codes change places. None: all are alike.
    """
    chosen = [i for i, name in enumerate(sequences) if order_by is None or name in order_by]
    channels = chosen or list(range(len(sequences)))
    if allowed is None:
        return order_by_channels(mixture.means, channels)
    order = torch.empty(mixture.n_classes, dtype=torch.long)
    for codes in allowed.T.unique(dim=0):
        alike = (codes == allowed.T).all(dim=1).nonzero()[:, 0].cpu()
        order[alike] = alike[order_by_channels(mixture.means.cpu()[alike], channels)]
    return order.tolist()
