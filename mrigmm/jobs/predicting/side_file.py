"""Record of a result in `<id>.json`; see docs/data.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.manifest import RegionRule
from mrigmm.data.provenance import provenance_record
from mrigmm.data.side_file import SavedMixture, SideFile, record_of
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import Problem, lines
from mrigmm.jobs.common import DISCLAIMER, command_line, versions
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.jobs.quantify import predicted_quantities
from mrigmm.jobs.quantifying.plausible import is_divided
from mrigmm.labels import class_ids
from mrigmm.methods.base import Segmentation


def side_file(
    study: StudyTensors,
    result: Segmentation,
    labels: NDArray[np.integer[Any]],
    segmenter: Segmenter,
    problems: Sequence[Problem],
) -> SideFile:
    """Everything about a result but how long it took, what it was made with, and scribbles.

    Args:
        study: that was segmented.
        result: its segmentation.
        labels: (X, Y, Z) class ids as they are written to the label map.
        segmenter: what segmented it.
        problems: warnings and notes for the user.
    """
    ids = class_ids(segmenter.classes)
    voxel_ml = study.output.grid.voxel_volume_ml
    volume_ml = {name: float((labels == i).sum()) * voxel_ml for name, i in ids.items()}
    if result.mvo is not None:
        volume_ml["mvo"] = float(result.mvo.sum()) * voxel_ml
    mixture, prior = result.mixture, segmenter.prior
    return SideFile(
        study=study.id,
        method=segmenter.method.name,
        settings=segmenter.method.describe(),
        run=None if segmenter.run is None else segmenter.run.resolve(),
        prior=None if prior is None else provenance_record(prior.provenance),
        classes=ids,
        volume_ml=volume_ml,
        label_map=record_of(labels, study.output.grid),
        quantities=predicted_quantities(study, result, segmenter.classes, segmenter.method.name),
        mixture=SavedMixture(
            result.sequences,
            result.units,
            *(
                part.double().numpy(force=True)
                for part in (mixture.weights, mixture.means, mixture.covariances)
            ),
        ),
        details={
            "iterations": result.n_iter,
            "converged": result.converged,
            "mean_log_likelihood": float(result.log_likelihood[study.region > 0].mean()),
            **result.details,
        },
        inputs={name: path.resolve() for name, path in study.inputs.items() if path is not None},
        frames=study.frames,
        region=_region_source(study),
        region_divided=is_divided(study),
        reference_grid=None if study.output.file is None else study.output.file.resolve(),
        motion={name: [asdict(m) for m in slices] for name, slices in study.motion.items()},
        bias_field={name: asdict(shading) for name, shading in study.shading.items()},
        warnings=lines(problems, "warning"),
        notes=lines(problems, "note"),
        versions=versions(),
        command=command_line(),
        disclaimer=DISCLAIMER,
    )


def _region_source(study: StudyTensors) -> str | Mapping[str, Any] | None:
    """The region's file, the rule that it follows, or how sure the anatomy stage is of it."""
    if study.found_region is not None:
        return study.found_region
    source = study.region_source
    if isinstance(source, RegionRule):
        return source.kind
    return None if source is None else str(source.resolve())
