"""MAP-EM with a population prior: `map-em`."""

from __future__ import annotations

from collections.abc import Mapping

from mrigmm.errors import InputError
from mrigmm.methods.base import Task
from mrigmm.methods.em_gmm import EMGMM
from mrigmm.methods.em_start import Voxels
from mrigmm.methods.settings import MapEMSettings
from mrigmm.mixture import EMResult, Mixture, PopulationPrior, fit_gmm


def require_prior(method: str, task: Task) -> None:
    """Refuse a task without a population prior, in the name of the method that was asked for.

    Raises:
        InputError: there is none.
    """
    if task.prior is None:
        raise InputError(
            f"{method} needs a population prior for these classes and sequences",
            expected="classes and sequences of the shipped prior, or --prior FILE",
            got=f"{', '.join(task.classes)} in {', '.join(task.sequences)}",
            remedy="make one from labelled studies with mrigmm prior",
        )


class MapEM(EMGMM):
    """MAP-EM with a Normal-inverse-Wishart and Dirichlet prior from the population."""

    name = "map-em"
    settings_type = MapEMSettings

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        super().__init__(task, overrides)
        require_prior(self.name, task)

    def fit(self, voxels: Voxels, start: Mixture, prior: PopulationPrior | None) -> EMResult:
        """Fit one MAP mixture."""
        assert prior is not None
        assert isinstance(self.settings, MapEMSettings)
        x = voxels.x
        map_prior = prior.map_prior(self.settings.prior_strength, dtype=x.dtype, device=x.device)
        return fit_gmm(start=start, prior=map_prior, **self._options(voxels))
