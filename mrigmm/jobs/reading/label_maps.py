"""Digests of the label maps behind a table: tables of older maps are not shown beside newer ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mrigmm.jobs.reading.prediction_folder import Prediction

EDITED_COLUMN = "edited"
_DIGESTS = "label_maps"


def label_maps(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Return what a table says of the label maps behind it: digest of each, and which were edited by hand."""
    listed = list(predictions)
    return {
        _DIGESTS: {prediction.study: prediction.digest for prediction in listed},
        EDITED_COLUMN: [prediction.study for prediction in listed if prediction.edited],
    }


def label_map_digests(content: Mapping[str, Any]) -> dict[str, str]:
    """Study -> digest of the label map that a table is of; empty for tables of older versions."""
    return {str(study): str(digest) for study, digest in content.get(_DIGESTS, {}).items()}


def is_of(digest: str | None, prediction: Prediction) -> bool:
    """Return whether figures are of a study's label map as it is now.

    Args:
        digest: of the map that they are of; None where the table does not say: then of the map that `predict`
            wrote.
        prediction: the study now.
    """
    return not prediction.edited if digest is None else digest == prediction.digest


def yes_or_no(value: bool) -> str:
    """A cell of a table."""
    return "yes" if value else "no"
