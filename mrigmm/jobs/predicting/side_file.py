"""What stands in `<id>.json`; see docs/data.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mrigmm.data.manifest import RegionRule
from mrigmm.data.provenance import provenance_record
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.jobs.common import DISCLAIMER, command_line, versions
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.jobs.quantify import predicted_quantities
from mrigmm.labels import class_ids
from mrigmm.methods.base import Segmentation


def side_file(
    study: StudyTensors,
    result: Segmentation,
    segmenter: Segmenter,
    warnings: tuple[str, ...],
) -> dict[str, Any]:
    """Everything about a result but how long it took and what it was made with."""
    ids = class_ids(segmenter.classes)
    voxel_ml = study.output.grid.voxel_volume_ml
    volume_ml = {name: float((result.labels == i).sum()) * voxel_ml for name, i in ids.items()}
    if result.mvo is not None:
        volume_ml["mvo"] = float(result.mvo.sum()) * voxel_ml
    return {
        "study": study.id,
        "method": segmenter.method.name,
        "settings": segmenter.method.describe(),
        "run": None if segmenter.run is None else str(segmenter.run.resolve()),
        "prior": segmenter.prior and provenance_record(segmenter.prior.provenance),
        "classes": ids,
        "volume_ml": volume_ml,
        "quantities": predicted_quantities(study, result, segmenter.classes),
        "mixture": {
            "sequences": result.sequences,
            "units": result.units,
            "weights": result.mixture.weights.tolist(),
            "means": result.mixture.means.tolist(),
            "covariances": result.mixture.covariances.tolist(),
        },
        "iterations": result.n_iter,
        "converged": result.converged,
        "mean_log_likelihood": float(result.log_likelihood[study.region > 0].mean()),
        **result.details,
        "inputs": {name: str(path.resolve()) for name, path in study.inputs.items()},
        "frames": study.frames,
        "region": _region_source(study),
        "reference_grid": str(study.output.file.resolve()),
        **_corrections_made(study),
        "warnings": warnings,
        "versions": versions(),
        "command": command_line(),
        "disclaimer": DISCLAIMER,
    }


def _region_source(study: StudyTensors) -> str | Mapping[str, Any]:
    """The region's file, the rule that it follows, or how sure the anatomy stage is of it."""
    if study.found_region is not None:
        return study.found_region
    source = study.region_source
    return source.kind if isinstance(source, RegionRule) else str(source and source.resolve())


def _corrections_made(study: StudyTensors) -> dict[str, Any]:
    """Motion per sequence and slice (in the order of the reference file), and bias fields."""
    made: dict[str, Any] = {}
    if study.motion:
        made["motion"] = {name: [asdict(m) for m in slices] for name, slices in study.motion.items()}
    if study.shading:
        made["bias_field"] = {name: asdict(shading) for name, shading in study.shading.items()}
    return made
