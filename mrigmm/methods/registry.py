"""The methods by name. Imports no method, so that listing them is instant."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from mrigmm.config import PRESET_DESCRIPTIONS
from mrigmm.errors import InputError, near_misses
from mrigmm.labels import SEQUENCES
from mrigmm.methods.entry import MethodEntry, Needs
from mrigmm.methods.settings import (
    CNNContinuitySettings,
    CNNSuperpixelSettings,
    ConsensusSettings,
    DSPGMMSettings,
    DSPKMeansSettings,
    DSPSettings,
    EMSettings,
    EMThresholdSettings,
    FWHMSettings,
    KMeansRefinedSettings,
    KMeansSettings,
    MapEMSettings,
    MRFSettings,
    NSDSettings,
    PretrainedSettings,
    SingleSettings,
    SLICKMeansSettings,
    StudyEMSettings,
    TwoStepSettings,
)
from mrigmm.plugins import METHODS_GROUP, Extensible

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from mrigmm.config import RunConfig
    from mrigmm.data.run_folder import RunFolder, RunRecord
    from mrigmm.methods.base import Method, Task
    from mrigmm.mixture import PopulationPrior
    from mrigmm.networks.deep_gmm import DeepGMM
    from mrigmm.networks.spatial_prior import SpatialPrior

# What can compute the network of a run.
RUNTIMES = ("torch", "onnx")


# What segments with the networks of a folder, and where neither a method nor a run is named.
NETWORKS_METHOD = "pretrained"
DEFAULT_METHOD = NETWORKS_METHOD
_COVERED = Needs(covered=True)
_LGE_IN_WALL = Needs(classes=("myocardium", "scar"), wall=True, sequences=("LGE",))

_BUILT_IN: Mapping[str, MethodEntry] = {
    "pretrained": MethodEntry(
        "mrigmm.methods.pretrained:PretrainedMethod",
        "networks that learnt from simulated slices, and the study's own mixture: nothing drawn or trained",
        PretrainedSettings,
        needs=Needs(
            classes=("myocardium",),
            only=("blood", "myocardium", "edema", "scar"),
            one_of=(*SEQUENCES, "other"),
        ),
        uses_prior=False,
        by_intensity=False,
    ),
    "em-gmm": MethodEntry(
        "mrigmm.methods.em_gmm:EMGMM",
        "EM for a Gaussian mixture (published baseline: diagonal, per slice, from the population means)",
        EMSettings,
    ),
    "em-gmm-sklearn": MethodEntry(
        "mrigmm.methods.em_gmm_sklearn:EMGMMSklearn",
        "the same fitted by scikit-learn, the reference implementation",
        StudyEMSettings,
        needs=_COVERED,
    ),
    "em-svgmm": MethodEntry(
        "mrigmm.methods.em_gmm:EMSVGMM",
        "EM for the spatially variant mixture, whose weights are per-pixel responsibilities",
        StudyEMSettings,
    ),
    "map-em": MethodEntry(
        "mrigmm.methods.em_gmm:MapEM",
        "MAP-EM with the population prior: one full-covariance mixture per study",
        MapEMSettings,
        needs=Needs(prior=True),
    ),
    "otsu": MethodEntry(
        "mrigmm.methods.thresholds:Otsu",
        "Otsu's threshold on LGE inside the wall: scar and normal wall only",
        needs=_LGE_IN_WALL,
        uses_prior=False,
    ),
    "nsd": MethodEntry(
        "mrigmm.methods.thresholds:NSD",
        "n SD above remote myocardium on LGE inside the wall: scar; edema where T2 is 2 SD above it",
        NSDSettings,
        needs=_LGE_IN_WALL,
        uses_prior=False,
    ),
    "fwhm": MethodEntry(
        "mrigmm.methods.thresholds:FWHM",
        "full width at half maximum on LGE inside the wall: scar and normal wall only",
        FWHMSettings,
        needs=_LGE_IN_WALL,
        uses_prior=False,
    ),
    "two-gaussians": MethodEntry(
        "mrigmm.methods.thresholds:TwoGaussians",
        "the brighter of two Gaussians on LGE inside the wall: scar and normal wall only",
        needs=_LGE_IN_WALL,
        uses_prior=False,
    ),
    "em-threshold": MethodEntry(
        "mrigmm.methods.thresholds:EMThreshold",
        "threshold between two Gaussians on LGE, small regions removed, infarct size weighted by intensity",
        EMThresholdSettings,
        needs=_LGE_IN_WALL,
        uses_prior=False,
    ),
    "kmeans": MethodEntry(
        "mrigmm.methods.kmeans:KMeans",
        "k-means on all sequences (scikit-learn), clusters named by the population prior or by brightness",
        KMeansSettings,
        needs=_COVERED,
    ),
    "slic-kmeans": MethodEntry(
        "mrigmm.methods.slic_kmeans:SLICKMeans",
        "k-means on SLIC superpixels' mean intensities, otherwise as kmeans",
        SLICKMeansSettings,
        needs=_COVERED,
    ),
    "mrf-gmm": MethodEntry(
        "mrigmm.methods.mrf_gmm:MRFGMM",
        "Gaussian mixture whose labels form a Potts field (MAP with the population prior, mean field)",
        MRFSettings,
        needs=_COVERED,
    ),
    "cnn-superpixels": MethodEntry(
        "mrigmm.methods.cnn_clustering:CNNSuperpixels",
        "a small CNN clusters the study by its own labels, one per superpixel (Kanezaki 2018)",
        CNNSuperpixelSettings,
        needs=_COVERED,
        uses_scribbles=True,
    ),
    "cnn-continuity": MethodEntry(
        "mrigmm.methods.cnn_clustering:CNNContinuity",
        "the same with neighbours that are to respond alike (Kim, Kanezaki and Tanaka 2020)",
        CNNContinuitySettings,
        needs=_COVERED,
        uses_scribbles=True,
    ),
    "kmeans-refined": MethodEntry(
        "mrigmm.methods.kmeans_refined:KMeansRefined",
        "k-means on intensities and another method's responsibilities, from its class means",
        KMeansRefinedSettings,
        needs=_COVERED,
    ),
    "dsp-kmeans": MethodEntry(
        "mrigmm.methods.dsp:DSPKMeans",
        "deep segmentation prior: k-means on the study as an early-stopped hourglass sees it",
        DSPKMeansSettings,
        needs=_COVERED,
    ),
    "dsp-gmm": MethodEntry(
        "mrigmm.methods.dsp:DSPGMM",
        "deep segmentation prior: a Gaussian mixture on that reconstruction",
        DSPGMMSettings,
        needs=_COVERED,
    ),
    "dsp-cnn": MethodEntry(
        "mrigmm.methods.dsp:DSPCNN",
        "deep segmentation prior: cnn-continuity on that reconstruction",
        DSPSettings,
        needs=_COVERED,
    ),
    "map-em-2step": MethodEntry(
        "mrigmm.methods.map_em_2step:MapEM2Step",
        "MAP-EM for the cavity, then for the wall on intensities at two scales, posterior smoothed",
        TwoStepSettings,
        needs=Needs(prior=True, wall_classes=2, cavity=True),
    ),
    "consensus": MethodEntry(
        "mrigmm.methods.consensus:Consensus",
        "several methods averaged or weighed by STAPLE, with a map of where they agree",
        ConsensusSettings,
        by_intensity=False,  # its members say so themselves
    ),
    "deepg-single": MethodEntry(
        "mrigmm.methods.deep_gmm_single:DeepGSingle",
        "published deepG for single images: a fresh U-Net is fitted to every slice",
        SingleSettings,
    ),
    "deepsvg-single": MethodEntry(
        "mrigmm.methods.deep_gmm_single:DeepSVGSingle",
        "published deepSVG for single images, otherwise as deepg-single",
        SingleSettings,
    ),
}

# Ours, and those of other packages (docs/extending.md).
METHODS = Extensible(METHODS_GROUP, MethodEntry, _BUILT_IN, reserved=PRESET_DESCRIPTIONS)


class RunMethod(NamedTuple):
    """A finished run, read once."""

    method: Method
    config: RunConfig
    record: RunRecord
    prior: PopulationPrior | None


def method_of_run(run: RunFolder, device: torch.device, *, runtime: str = "torch") -> RunMethod:
    """Read a finished run: the method that it is, its configuration, record and prior.

    Args:
        run: the run.
        device: where torch computes.
        runtime: "torch", or "onnx" for the run's exported network under ONNX Runtime on the CPU.

    Raises:
        InputError: when the run is missing, unfinished or damaged, or lacks what the runtime needs.
    """
    from mrigmm.methods.deep_gem import DeepGEMMethod, build_spatial_prior, starting_method
    from mrigmm.methods.deep_gmm import DeepGMMMethod, build_network
    from mrigmm.methods.needs import before_segmenting

    config, record, prior = run.read()
    if runtime == "torch":  # an exported network says itself which weights it was made from
        run.require_own_weights(record)
    if config.objective == "gem":
        network = build_spatial_prior(config)
        _load_network(run, network, runtime)
        start = starting_method(config, prior, run.read_multiscale_prior())
        gem = DeepGEMMethod(network, config, record, start, device)
        return RunMethod(before_segmenting(gem, record.classes), config, record, prior)
    deep_gmm = build_network(config, prior)
    _load_network(run, deep_gmm, runtime)
    gmm = DeepGMMMethod(deep_gmm, config, record, prior, device)
    return RunMethod(before_segmenting(gmm, record.classes), config, record, prior)


def _load_network(run: RunFolder, network: SpatialPrior | DeepGMM, runtime: str) -> None:
    """Give a network of the run's configuration what the run has learnt."""
    if runtime == "torch":
        run.load_weights(network)
        return
    from mrigmm.networks.onnx_unet import OnnxUNet

    exported = OnnxUNet(run.onnx, divisor=network.unet.divisor, weights_sha256=run.weights_sha256())
    network.register_module("unet", exported)


def make_method(name: str, task: Task, overrides: Mapping[str, object]) -> Method:
    """Create a method for a task; it refuses a study that lacks what it needs before it segments.

    Args:
        name: a key of `METHODS`.
        task: what is to be segmented.
        overrides: settings that differ from the method's defaults.

    Raises:
        InputError: unknown method, a setting that it does not have, or a task that lacks what it needs.
    """
    from mrigmm.config import PRESETS
    from mrigmm.methods.foreign import checked_method, foreign_failure
    from mrigmm.methods.needs import before_segmenting, refuse_task

    if name in PRESETS:
        raise InputError(
            f"'{name}' is a preset of train, not a method",
            expected="a method (mrigmm info)",
            remedy=f"mrigmm train MANIFEST -o RUN --preset {name}, then predict with --run RUN",
        )
    if name not in METHODS:
        if name in METHODS.problems:
            raise InputError.from_problems([replace(METHODS.problems[name], severity="error")])
        raise InputError(f"unknown method '{name}'", remedy=near_misses(name, list(METHODS)))
    entry, owner = METHODS[name], METHODS.owners.get(name) if name not in _BUILT_IN else None
    refuse_task(name, entry, task, overrides)
    try:
        module, _, attribute = entry.location.partition(":")
        method: Method = getattr(import_module(module), attribute)(task, overrides)
        if owner is not None:
            method = checked_method(method, name, owner, task.classes)
    except InputError:
        raise
    except Exception as error:
        if owner is None:
            raise
        raise foreign_failure(name, owner, error) from error
    return before_segmenting(method, task.classes, needs=entry.needs, by_intensity=entry.by_intensity)
