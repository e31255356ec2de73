"""`pretrained`: the networks that learnt from simulated slices, and the study's own mixture behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mrigmm.data.geometry import largest_piece, plane_box
from mrigmm.data.quality import misleading
from mrigmm.data.study_tensors import WHOLE, PlaneBox, StudyTensors, packed
from mrigmm.data.ventricle import divided_ventricle
from mrigmm.labels import KEY_SEQUENCES, SEGMENTER_CLASSES, Region, allowed_classes, class_ids
from mrigmm.methods.base import (
    Segmentation,
    Task,
    class_log_density,
    one_mixture,
    present_sequences,
    responsible_mixture,
    unpack,
)
from mrigmm.methods.decision import decided_labels
from mrigmm.methods.network_finder import seen_cavity
from mrigmm.methods.settings import PretrainedSettings, validated_settings
from mrigmm.methods.study_verdict import expected_dice, judge_infarct, set_aside, study_features
from mrigmm.methods.study_views import NETWORK_SEQUENCES, given_view, what_is_given
from mrigmm.mixture import Mixture, smooth_posterior
from mrigmm.pretrained.folder import PretrainedFolder
from mrigmm.pretrained.networks import read_networks, shipped_networks

ITERATIONS = 5
_SMOOTHING_MM = 1.5
_LOWEST = 1e-4  # no network is certain of what it has not seen


@dataclass(frozen=True)
class OwnFit:
    """EM of the spatially variant mixture `sum_k pi_k(x) N(x | k)` with pi given.

    Attributes:
        resp: (K, X, Y, Z) responsibilities, smoothed in plane inside the region; 0 outside.
        mixture: one, with the mean responsibilities as weights.
        nll_v: mean over voxels of `-log sum_k pi_k(x) N(x | k)`.
    """

    resp: Tensor
    mixture: Mixture
    nll_v: float


def own_fit(study: StudyTensors, region: Tensor, prior: Tensor) -> OwnFit:
    """Fit the study's class means and covariances, from the prior's own responsibilities.

    Args:
        study: the study.
        region: (X, Y, Z) codes; classes that a code forbids have probability 0 in `prior`.
        prior: (K, X, Y, Z) probabilities, sum 1 inside the region.
    """
    x, observed = replace(study, region=region).present_voxels()
    x = x.double()
    pi = packed(prior, region).T.double()  # (N, K)
    log_pi = torch.where(pi > 0, pi.clamp_min(_LOWEST), pi).log()  # a forbidden class stays so
    resp = pi
    mixture = responsible_mixture(x, resp, observed)
    for _ in range(ITERATIONS):
        # Class by class, as they lie in memory: several times quicker than along rows of K.
        resp = (log_pi + class_log_density(x, mixture, observed)).T.softmax(dim=0).T
        mixture = responsible_mixture(x, resp, observed)
    nll_v = -(log_pi + class_log_density(x, mixture, observed)).logsumexp(dim=1).mean()
    smooth = smooth_posterior(
        unpack(resp.float(), region), region.long(), sigma_mm=_SMOOTHING_MM, spacing_mm=study.spacing_mm
    )
    return OwnFit(smooth, mixture, float(nll_v))


# What of the networks' classes each class of ours takes.
_PARTS = {"blood": ("blood",), "myocardium": ("myocardium",), "edema": ("edema",), "scar": ("scar", "mvo")}
NO_INFARCT = (
    "no infarct found; what looked like one, if anything, was set aside (infarct_probability and "
    "infarct_set_aside_ml in quantities.csv)"
)
_MVO, _RV = SEGMENTER_CLASSES.index("mvo"), SEGMENTER_CLASSES.index("rv")


@dataclass(frozen=True)
class NetworkView:
    """The networks' output inside a study's region.

    Attributes:
        prior: (K, X, Y, Z) probabilities of the task's classes, sum 1 inside the region.
        mvo: (X, Y, Z) share of the infarct's probability that is obstruction.
        rv: (X, Y, Z) probability of right-ventricular blood, 0 inside the region; in the whole plane.
        spread: (X, Y, Z) SD over networks and symmetries of the most probable class.
    """

    prior: Tensor
    mvo: Tensor
    rv: Tensor
    spread: Tensor


@dataclass(frozen=True)
class Solved:
    """A study's segmentation before any verdict.

    Attributes:
        resp: (K, X, Y, Z) responsibilities that networks and own mixture share.
        seen: what the networks say.
        own: (K, X, Y, Z) responsibilities of the study's own mixture.
        features: `study_verdict.FEATURES` by name; empty without a class for scar.
    """

    resp: Tensor
    seen: NetworkView
    own: Tensor
    features: dict[str, float]


class PretrainedMethod:
    """Segments a study inside its region; the label is shared by networks and own mixture."""

    name = "pretrained"

    def __init__(self, task: Task, overrides: Mapping[str, object]) -> None:
        self.settings = validated_settings(self.name, PretrainedSettings, overrides)
        self.task = task
        own = self.settings.networks
        self.networks = (
            shipped_networks(str(task.device))
            if own is None
            else read_networks(PretrainedFolder(own), task.device)
        )

    def describe(self) -> dict[str, Any]:
        """Settings, and which networks."""
        record = self.networks.record
        return {
            **self.settings.model_dump(mode="json"),
            "networks": {file.file: file.sha256 for file in record.files},
            "calibration": self.networks.calibration_digest,
        }

    def segment(self, study: StudyTensors) -> Segmentation:
        """Segment; raises InputError for a study without LGE, T2 and bSSFP."""
        classes, calibration = self.task.classes, self.networks.calibration
        whole, box = study, plane_box(study.region.numpy() > 0)
        given = what_is_given(study)
        study = self.divided(study, box)
        seen = self.look(study, box)
        study = study.in_plane_box(box)
        solved = self.solve(study, given, seen)
        resp = solved.resp
        volume = study.output.grid.voxel_volume_ml
        labels = decided_labels(resp, study.region, classes, voxel_volume_ml=volume)
        details: dict[str, Any] = {"precision": str(self.networks.precision).removeprefix("torch.")}
        warnings: tuple[str, ...] = ()
        called_ml = int((labels.long() == class_ids(classes).get("scar", -1)).sum()) * volume
        verdict = judge_infarct(solved.features, calibration, called_ml=called_ml)
        if verdict is not None:
            details["infarct"] = verdict.describe()
            if not verdict.found:
                resp, warnings = set_aside(resp, classes), (NO_INFARCT,)
                labels = decided_labels(resp, study.region, classes, voxel_volume_ml=volume)
        quality = expected_dice(solved.features, calibration)
        named = not (study.found_region or {}).get("misnamed")
        if quality and named and not misleading(study.findings):
            details["expected_dice"] = quality
        mixture, density = one_mixture(study, study.region, resp, classes)
        mvo = (labels == class_ids(classes).get("scar", -1)) & (seen.mvo > 0.5)
        return Segmentation(
            resp=whole.from_plane_box(resp, box),
            labels=whole.from_plane_box(labels, box),
            mixture=mixture,
            sequences=present_sequences(whole),
            log_likelihood=whole.from_plane_box(density, box),
            n_iter=ITERATIONS,
            converged=True,
            details=details,
            warnings=warnings,
            mvo=whole.from_plane_box(mvo, box) if "scar" in classes else None,
            rv=right_ventricle(seen.rv, whole.region),
        )

    def divided(self, study: StudyTensors, box: PlaneBox = WHOLE) -> StudyTensors:
        """The study with cavity and wall where its region tells only the ventricle.

        Args:
            study: the study.
            box: the part of the plane that shows the ventricle.
        """
        undivided = study.region == Region.LV
        if "blood" not in self.task.classes or not bool(undivided.any()):
            return study
        inside = study.region[box].numpy() > 0
        codes = divided_ventricle(inside, seen_cavity(self.networks, given_view(study), box))
        found = study.from_plane_box(torch.from_numpy(codes), box)
        return replace(study, region=torch.where(undivided, found, study.region))

    def solve(self, study: StudyTensors, given: int, seen: NetworkView | None = None) -> Solved:
        """Segment without a verdict: networks, own mixture, and what is known of how well they did.

        Args:
            study: divided; whole, or the part of the plane that `seen` is of.
            given: `what_is_given`, before it was divided.
            seen: what the networks say of it, where they have been asked.
        """
        seen = seen or self.look(study)
        share = self.settings.network_share
        fit = own_fit(study, study.region, seen.prior)
        resp = share * seen.prior + (1 - share) * fit.resp
        features = study_features(study, resp, seen.prior, fit.resp, seen.spread, self.task.classes, given)
        return Solved(resp, seen, fit.resp, features)

    def look(self, study: StudyTensors, box: PlaneBox = WHOLE) -> NetworkView:
        """Return the networks' output for a study, in a part of the plane."""
        present = present_sequences(study)
        view = given_view(study)
        mean, sd = self.networks.classes(view.slices)
        maps = view.to_study(torch.cat([mean, sd.amax(dim=1, keepdim=True)], dim=1), box)  # (K + 1, X, Y, Z)
        probabilities, spread = maps[:-1], maps[-1]
        rv = view.to_study(mean[:, _RV, None])[0]
        prior = _class_prior(probabilities, study.region[box], self.task.classes, present)
        infarct = probabilities[[SEGMENTER_CLASSES.index(n) for n in _PARTS["scar"]]].sum(dim=0)
        mvo = probabilities[_MVO] / infarct.clamp_min(1e-6)
        return NetworkView(prior, mvo, rv, spread)


def _class_prior(
    probabilities: Tensor, region: Tensor, classes: tuple[str, ...], present: tuple[str, ...]
) -> Tensor:
    """Probabilities (K, X, Y, Z) of the classes asked for, as the region allows them, sum 1 inside.

    A class that is not asked for, or that the sequences cannot show, goes to normal myocardium.
    """
    taken = {name: list(parts) for name, parts in _PARTS.items()}
    unseen = {"edema"} if KEY_SEQUENCES["edema"] not in present else set()
    if not {*NETWORK_SEQUENCES} & {*present}:
        unseen |= {"scar"}
    for name in ("edema", "scar"):
        if name not in classes or name in unseen:
            taken["myocardium"] += taken.pop(name)
    if "blood" not in classes:
        taken.pop("blood")
    maps = torch.zeros((len(classes), *region.shape))
    for name, parts in taken.items():
        rows = [SEGMENTER_CLASSES.index(part) for part in parts]
        maps[classes.index(name)] = probabilities[rows].sum(dim=0)
    looked_for = torch.tensor([name in taken for name in classes])
    allowed = (torch.tensor(allowed_classes(classes)) & looked_for)[region.long()].movedim(-1, 0)
    inside = region != Region.OUTSIDE
    floor = 1e-4 * allowed
    maps = torch.where(allowed & inside, maps + floor, 0.0)
    total = maps.sum(dim=0)
    return torch.where(total > 0, maps / total.clamp_min(1e-12), 0.0)


def right_ventricle(probability: Tensor, region: Tensor) -> Tensor | None:
    """Blood of the right ventricle (X, Y, Z) bool: the largest piece of it outside the region; None: none.

    Args:
        probability: (X, Y, Z).
        region: (X, Y, Z) codes.
    """
    mask = ((probability > 0.5) & (region == Region.OUTSIDE)).numpy()
    box = plane_box(mask)
    mask[box] = largest_piece(mask[box])
    return torch.from_numpy(mask) if mask.any() else None
