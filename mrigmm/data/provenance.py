"""Overlap of the studies of a population prior with those that it is evaluated on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mrigmm.data.manifest import Manifest, Study
from mrigmm.data.priors.choice import SEQUENCE_ALIASES
from mrigmm.data.sources.base import stem
from mrigmm.data.sources.table import KINDS

# Words in ids and file names that do not tell data sets apart.
_PLAIN_WORDS = frozenset(("case", "patient", "sub", "subject", "study", "train", "training"))
_TITLES = frozenset(kind.title.lower() for kind in KINDS.built_in.values() if kind.title)


@dataclass(frozen=True)
class PriorOverlap:
    """Studies that a prior was made from.

    Attributes:
        sure: ids of studies whose id or file name is one of the prior's.
        perhaps: ids of studies that have only the number of one of the prior's.
    """

    sure: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()


def provenance_record(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a side file says about a prior: source, data set and study ids."""
    ids = provenance.get("study_ids")
    return {
        "source": str(provenance.get("source", "unknown")),
        "dataset": str(provenance.get("dataset", "")),
        "study_ids": [str(i) for i in ids] if isinstance(ids, list | tuple) else [],
    }


def prior_overlap(provenance: Mapping[str, Any], cohort: Manifest, studies: Iterable[Study]) -> PriorOverlap:
    """Studies among those that a prior was made from.

    Ids are compared, and the names of the images, since copies of a data set are often renamed: study
    `Case_101` with the file `myops_training_101_DE.nii.gz` is sure, `101` alone is perhaps one of MyoPS
    2020's. A cohort that the manifest names as another data set has no "perhaps".

    Args:
        provenance: of the prior, see `provenance_record`.
        cohort: the manifest of the studies.
        studies: those to look for.
    """
    record = provenance_record(provenance)
    dataset = record["dataset"].lower()
    words = frozenset(word for word in re.findall(r"[a-z]+|[0-9]{4}", dataset))
    ids = tuple(i.casefold() for i in record["study_ids"])
    keys = {_key(i, words) for i in ids} - {()}
    same = not dataset or not cohort.name or cohort.name.lower() == dataset
    other = cohort.name.lower() in _TITLES and not dataset.startswith(cohort.name.lower())
    sure, perhaps = [], []
    for study in studies:
        names = [name.casefold() for name in (study.id, *(stem(path.name) for path in study.images.values()))]
        # An id such as p01 is found in many data sets, an id that names its data set in one.
        if any(_is_or_begins_with(name, i) for name in names for i in ids if same or _words(i) & words):
            sure.append(study.id)
        elif not other and any(_key(name, words) in keys for name in names):
            perhaps.append(study.id)
    return PriorOverlap(tuple(sure), tuple(perhaps))


def _is_or_begins_with(name: str, study_id: str) -> bool:
    """Return whether a name is an id, or an id with something after it (`myops_training_101_DE`)."""
    rest = name.removeprefix(study_id)
    return name.startswith(study_id) and not rest[:1].isalnum()


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[0-9]+", name))


def _key(name: str, data_set_words: frozenset[str]) -> tuple[str, ...]:
    """Words and numbers of a name, without those of the data set, of sequences and of nnU-Net's channel."""
    name = re.sub(r"_0[0-9]{3}$", "", name)
    parts = [part for part in re.split(r"[^a-z0-9]+", name) if part not in SEQUENCE_ALIASES]
    pieces = [piece for part in parts for piece in re.findall(r"[a-z]+|[0-9]+", part)]
    return tuple(piece for piece in pieces if piece not in _PLAIN_WORDS and piece not in data_set_words)
