"""EM for the spatially variant mixture: `em-svgmm`."""

from __future__ import annotations

from mrigmm.methods.em_gmm import EMGMM
from mrigmm.methods.em_start import Voxels
from mrigmm.methods.settings import StudyEMSettings
from mrigmm.mixture import EMResult, Mixture, PopulationPrior, fit_svgmm


class EMSVGMM(EMGMM):
    """EM for the spatially variant mixture: each voxel's weights are its last responsibilities."""

    name = "em-svgmm"
    settings_type = StudyEMSettings

    def fit(self, voxels: Voxels, start: Mixture, prior: PopulationPrior | None) -> EMResult:
        """Fit one spatially variant mixture."""
        return fit_svgmm(start=start, **self._options(voxels))
