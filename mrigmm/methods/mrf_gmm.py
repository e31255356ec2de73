"""`mrf-gmm`: a Gaussian mixture whose labels form a Potts field."""

from __future__ import annotations

from mrigmm.data.study_tensors import StudyTensors
from mrigmm.methods.base import (
    Segmentation,
    SettableMethod,
    brightness_order,
    hard_labels,
    present_sequences,
    stacked,
    unpack,
)
from mrigmm.methods.clusters import covered_voxels, naming_note
from mrigmm.methods.em_start import Voxels, require_voxels, starting_mixture
from mrigmm.methods.settings import MRFSettings
from mrigmm.mixture import fit_potts


class MRFGMM(SettableMethod[MRFSettings]):
    """EM with a mean-field E-step; MAP with the population prior where there is one.

    As Atropos: B. B. Avants et al., An open source multivariate framework for n-tissue segmentation,
    Neuroinformatics 2011; Y. Zhang, M. Brady, S. Smith, Segmentation of brain MR images through a hidden
    Markov random field model, IEEE TMI 2001; mean field: J. Zhang, The mean field theory in EM procedures
    for Markov random fields, IEEE Trans. Signal Process. 1992.
    """

    name = "mrf-gmm"
    settings_type = MRFSettings

    def segment(self, study: StudyTensors) -> Segmentation:
        """Fit the mixture of one study and label by the mean-field posterior.

        Raises:
            InputError: the region has fewer voxels than classes.
        """
        settings, device = self.settings, self.task.device
        sequences, region = present_sequences(study), study.region
        x = covered_voxels(study).double().to(device)
        require_voxels(study, len(x), self.task)
        prior = None if self.task.prior is None else self.task.prior.select(sequences=sequences)
        map_prior = None
        if prior is not None:
            map_prior = prior.map_prior(settings.prior_strength, dtype=x.dtype, device=device)
        voxels = Voxels(x, None, region[region > 0].long().to(device))
        start = starting_mixture(
            voxels,
            self.task,
            prior,
            covariance=settings.covariance,
            variance_floor=settings.variance_floor,
            seed=settings.seed,
        )
        result = fit_potts(
            study.image[study.present].double().to(device),
            region.long().to(device),
            start=start,
            beta=settings.beta,
            spacing_mm=study.spacing_mm,
            covariance=settings.covariance,
            prior=map_prior,
            allowed=self.task.allowed,
            max_iter=settings.max_iter,
            tol=settings.tolerance,
            in_plane=settings.in_plane,
            variance_floor=settings.variance_floor,
        )
        mixture, resp = result.mixture, result.resp.float().cpu()
        if prior is None:
            order = brightness_order(
                mixture,
                sequences,
                settings.order_by or self.task.order_by,
                allowed=self.task.allowed[voxels.region.unique()],
            )
            mixture, resp = mixture.permute(order), resp[:, order]
        notes = naming_note(self.task, settings.order_by)
        if not result.converged:
            notes = (f"the fit stopped at {settings.max_iter} iterations", *notes)
        maps = unpack(resp, region)
        return Segmentation(
            resp=maps,
            labels=hard_labels(maps, region, self.task.classes),
            mixture=stacked([mixture]),
            sequences=sequences,
            log_likelihood=unpack(result.log_likelihood[:, None].float().cpu(), region)[0],
            n_iter=result.n_iter,
            converged=result.converged,
            warnings=notes,
        )
