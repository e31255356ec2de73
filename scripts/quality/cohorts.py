"""Protocols, simulated or given cohorts, and the studies or slices that are scored."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from calibrate_phantom import REPORT_SEED, TUNING_SEED

from mrigmm.data.manifest import Manifest, RegionRule, Study
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import NO_CORRECTIONS
from mrigmm.data.study_tensors import StudyTensors
from mrigmm.errors import InputError
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import Track
from mrigmm.labels import CAVITY_CLASSES, NESTED_REGIONS
from mrigmm.methods.anatomy import Finder, load_found
from mrigmm.phantom import PRESETS, preset_hash, simulate_cohort

TRAINING_SEED = 3000  # cohorts that networks are trained on
SEEDS = {"report": REPORT_SEED, "tuning": TUNING_SEED, "training": TRAINING_SEED}

RegionKind = Literal["lv", "cavity-wall"]


@dataclass(frozen=True)
class Protocol:
    """A protocol: the region given at test time, and what counts as one object.

    Attributes:
        summary: in words, for the tables.
        region: region map that the methods get, derived from the reference label.
        healthy: only studies whose reference has neither scar nor edema.
        per_slice: each slice that holds all classes is segmented and scored by itself.
        found: no region map is given; it is found.
        sequences: the only ones that are given; empty: all of the cohort.
    """

    summary: str
    region: RegionKind
    healthy: bool = False
    per_slice: bool = False
    found: bool = False
    sequences: tuple[str, ...] = ()


PROTOCOLS = {
    "published": Protocol("LV mask, only slices with all classes, slice by slice", "lv", per_slice=True),
    "lv": Protocol("LV mask, whole studies", "lv"),
    "cavity-wall": Protocol("cavity and wall given, whole studies", "cavity-wall"),
    "healthy-lv": Protocol("studies without infarct, LV mask", "lv", healthy=True),
    "healthy": Protocol("studies without infarct, cavity and wall given", "cavity-wall", healthy=True),
    "nothing": Protocol("nothing given", "cavity-wall", found=True),
    "healthy-nothing": Protocol(
        "studies without infarct, nothing given", "cavity-wall", healthy=True, found=True
    ),
    "lge": Protocol("LGE alone, nothing else given", "cavity-wall", found=True, sequences=("LGE",)),
    "lge-wall": Protocol("LGE alone, cavity and wall given", "cavity-wall", sequences=("LGE",)),
}


@dataclass(frozen=True)
class Cohort:
    """Studies with reference labels on disk.

    Attributes:
        path: manifest.
        data_root: folder that its paths resolve against.
        split: the studies that are used.
        n_studies: only the first so many of them; None for all.
        identity: what makes results of this cohort comparable (seed and preset, or hash of the manifest).
    """

    path: Path
    data_root: Path
    split: str
    n_studies: int | None
    identity: dict[str, Any]

    @property
    def manifest(self) -> Manifest:
        """The manifest, read and checked."""
        return read_manifest(self.path, self.data_root)

    @property
    def studies(self) -> tuple[Study, ...]:
        """The studies that are used."""
        return self.manifest.split(self.split)[: self.n_studies]


@dataclass(frozen=True)
class Case:
    """One object to segment: a study, or one of its slices.

    Attributes:
        study: id of the study that it belongs to.
        tensors: what is segmented, with its reference label.
    """

    study: str
    tensors: StudyTensors


def simulated_cohort(folder: Path, *, preset: str, seed: int, n_studies: int, track: Track) -> Cohort:
    """Simulate a cohort into a folder of its own below `folder`, or take the one that is there.

    Args:
        folder: for all simulated cohorts.
        preset: of `mrigmm.phantom`.
        seed: of everything.
        n_studies: how many.
        track: progress bar.
    """
    digest = preset_hash(PRESETS[preset])
    identity = {"preset": preset, "preset_hash": digest, "seed": seed, "studies": n_studies}
    out = folder / f"{preset}-{seed}-{n_studies}"
    if not (out / "manifest.json").exists():  # it is written last: without it, the cohort is unfinished
        shutil.rmtree(out, ignore_errors=True)
        simulate_cohort(
            out,
            n_studies=n_studies,
            seed=seed,
            preset=preset,
            test_share=0,
            track=lambda items, _description, _total: track(items, f"Simulating {preset}"),
        )
    return Cohort(out / "manifest.json", out, "all", None, identity)


def given_cohort(manifest: Path, split: str, data_root: Path | None, n_studies: int | None) -> Cohort:
    """A user's own labelled cohort; its identity is the text of the manifest, not the images."""
    root = manifest.parent if data_root is None else data_root
    read_manifest(manifest, root).split(split)  # says now what is wrong with it
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    identity = {"manifest": manifest.name, "sha256": digest, "split": split, "studies": n_studies or "all"}
    return Cohort(manifest, root, split, n_studies, identity)


def region_of(study: Study, manifest: Manifest, kind: RegionKind) -> Study:
    """The study with the region map of a protocol.

    It is derived from the reference label, as published protocols do, where that shows the whole
    ventricle (blood and normal wall). Otherwise the study keeps its own map.
    """
    whole = all(manifest.labels.get(name) for name in (*CAVITY_CLASSES, NESTED_REGIONS["wall"][0]))
    return replace(study, region=RegionRule(kind)) if whole else study


def region_manifest(cohort: Cohort, kind: RegionKind, out: Path, *, split: str = "training") -> Path:
    """Write the manifest of a training cohort whose region maps are those of a protocol.

    Args:
        cohort: its `split` becomes the only one.
        kind: of the region maps.
        out: file to write.
        split: name of the split in the file.
    """
    content = json.loads(cohort.path.read_text(encoding="utf-8"))
    manifest = cohort.manifest
    entries = {
        entry["id"]: entry for name in ("training", "validation", "test") for entry in content.get(name) or ()
    }
    chosen = []
    for study in cohort.studies:
        changed = region_of(study, manifest, kind)
        rule = {"region": {"rule": kind}} if isinstance(changed.region, RegionRule) else {}
        chosen.append({**entries[study.id], **rule})
    kept = {key: content[key] for key in ("name", "modality", "labels") if key in content}
    write_json(out, {**kept, split: chosen})
    return out


def given_to_predict(cohort: Cohort, protocol: str, out: Path) -> Path:
    """Write the manifest that `predict` gets under a protocol; the cohort is its split "test".

    With nothing given, it names neither region map nor label.
    """
    given = PROTOCOLS[protocol]
    path = region_manifest(cohort, given.region, out, split="test")
    content = json.loads(path.read_text(encoding="utf-8"))
    for entry in content["test"]:
        entry["image"] = {n: file for n, file in entry["image"].items() if is_given(n, given)}
        for key in ("region", "label") if given.found else ():
            entry.pop(key, None)
    write_json(path, content)
    return path


def is_given(sequence: str, protocol: Protocol) -> bool:
    """Return whether a protocol gives a sequence."""
    return not protocol.sequences or sequence in protocol.sequences


def read_cases(
    cohort: Cohort,
    protocol: Protocol,
    classes: Sequence[str],
    track: Track,
    finder: Finder | None = None,
) -> tuple[list[Case], dict[str, str]]:
    """Read what a protocol scores; `finder` finds the ventricle where the protocol gives nothing.

    Returns:
        The cases, and study id -> reason of the studies that could not be read.
    """
    manifest = cohort.manifest
    cases: list[Case] = []
    unreadable: dict[str, str] = {}
    for study in track(cohort.studies, "Reading"):
        images = {name: file for name, file in study.images.items() if is_given(name, protocol)}
        study = replace(study, images=images)
        try:
            tensors = load_found(
                replace(study, region=None)
                if protocol.found
                else region_of(study, manifest, protocol.region),
                manifest.sequences,
                classes,
                finder,
                labels=manifest.labels,
                corrections=NO_CORRECTIONS,
                with_label=True,
            )
        except InputError as error:
            unreadable[study.id] = error.problems[0].what
            continue
        known = [i for i, name in enumerate(classes) if manifest.labels.get(name)]
        if protocol.healthy and _has_infarct(tensors, classes):
            continue
        if protocol.per_slice:
            cases += [Case(study.id, part) for part in full_slices(tensors, known)]
        else:
            cases.append(Case(study.id, tensors))
    return cases, unreadable


def full_slices(study: StudyTensors, classes: Sequence[int]) -> Iterator[StudyTensors]:
    """The slices that hold all of these classes, each as a study of one slice.

    They keep the standardisation of the whole study, the units of priors and networks.
    """
    assert study.label is not None
    for z in range(study.region.shape[2]):
        here = slice(z, z + 1)
        if all((study.label[..., z] == k).any() for k in classes):
            yield replace(
                study,
                id=f"{study.id} slice {z}",
                image=study.image[..., here],
                observed=study.observed[..., here],
                region=study.region[..., here],
                label=study.label[..., here],
            )


def _has_infarct(study: StudyTensors, classes: Sequence[str]) -> bool:
    assert study.label is not None
    return any(
        bool((study.label == i).any())
        for i, name in enumerate(classes)
        if name in NESTED_REGIONS["pathology"]
    )
