"""MAP-EM with a population prior: `map-em`."""

from __future__ import annotations

from mrigmm.methods.em_gmm import EMGMM
from mrigmm.methods.em_start import Voxels
from mrigmm.methods.settings import MapEMSettings
from mrigmm.mixture import EMResult, Mixture, PopulationPrior, fit_gmm


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
