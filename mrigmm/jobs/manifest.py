"""`mrigmm manifest`: the manifest of a downloaded data set, and its splits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mrigmm.data import quality
from mrigmm.data.files import remove, require_not_input, write_text
from mrigmm.data.manifest import Manifest
from mrigmm.data.manifest_file import parse_manifest
from mrigmm.data.priors.shipped import default_prior
from mrigmm.data.provenance import prior_overlap
from mrigmm.data.sources.base import NIFTI, Cohort, Entry, Folder, Kind, Options, list_folder, natural_key
from mrigmm.data.sources.files import with_regions
from mrigmm.data.sources.names import label_ids, labels_as_json
from mrigmm.data.sources.table import KINDS
from mrigmm.data.splits import Division, divide
from mrigmm.errors import InputError, Problem, near_misses, some_of
from mrigmm.jobs.common import Outcome, Track, no_progress
from mrigmm.jobs.prior import prior
from mrigmm.jobs.shown import ShownTable

_FOREIGN = (".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".gipl")


@dataclass(frozen=True, repr=False)
class Written(Outcome):
    """Manifests that were written.

    Attributes:
        manifests: one, or one per fold.
        priors: population priors of their own training studies, where the shipped one knows their tests.
        data_root: what the paths resolve against when it is not the manifest's own folder.
    """

    manifests: tuple[Path, ...] = ()
    priors: tuple[Path, ...] = ()
    data_root: Path | None = None

    def tables(self) -> tuple[ShownTable, ...]:
        """The files, by what they are."""
        files = [("manifest", path) for path in self.manifests] + [("prior", path) for path in self.priors]
        if self.data_root is not None:
            files.append(("data root", self.data_root))
        return (ShownTable(("file", "path"), tuple((kind, str(path)) for kind, path in files)),)


def manifest(
    kind: str,
    src: Path | str,
    out: Path | str,
    *,
    region: str | None = None,
    region_from_labels: Literal["lv", "cavity-wall"] | None = None,
    split: str | None = None,
    seed: int = 0,
    images: Mapping[str, str | Sequence[str]] | None = None,
    label: str | None = None,
    labels: str | None = None,
    rename: Mapping[str, str] | None = None,
    overwrite: bool = False,
    track: Track = no_progress,
) -> Written:
    """Write the manifest of a folder whose layout is known, or described by patterns.

    Paths are relative to the manifest's folder when that holds the data. A manifest written elsewhere
    has paths relative to `src` and is used with `data_root=src`.

    Where a split tests on studies that the shipped population prior comes from, a prior of the split's
    own training studies is written beside the manifest: `<stem>_prior.json`.

    Examples:
        >>> mrigmm.manifest("myops", "MyoPS2020", "MyoPS2020/manifest.json")  # doctest: +SKIP

    Args:
        kind: layout of the folder, a key of `KINDS` (docs/data.md).
        src: the folder.
        out: JSON file to write; folds get `_fold0`, `_fold1`, ... before the suffix.
        region: pattern of region maps, with `{id}` where the study id stands.
        region_from_labels: derive region maps from reference labels where there is no file.
        split: a published split, "ratio=0.7/0.1/0.2", "folds=5" or a JSON file with lists; default the
            layout's own.
        seed: of ratio and folds.
        images: sequence name -> pattern, or several, of which the first that fits counts (kinds "files", with
            `{id}` in the patterns, and "any").
        label: pattern of the reference labels (kind "files").
        labels: scheme of label ids, "blood=1,scar=3+4" or "{blood: 1, ...}"; default the data set's.
        rename: name of a sequence or class in the folder -> in the manifest (kinds "nnunet", "bids").
        overwrite: allow to replace manifests and their priors.
        track: progress bar of the priors.

    Returns:
        The `manifests` that were written, one or one per fold, and the `priors` that belong to them. A study
        that cannot be entered (two files for one sequence, no image) is an error in `problems`; the others
        go on.

    Raises:
        InputError: no study that can be entered, or a split that is not possible.
    """
    src, out = Path(src), Path(out)
    if out.suffix.lower() != ".json":
        raise InputError("a manifest is a JSON file", file=out, remedy=f"choose -o {out / 'manifest.json'}")
    patterns = {name: (p,) if isinstance(p, str) else tuple(p) for name, p in (images or {}).items()}
    options = Options(patterns, label, None if labels is None else label_ids(labels), rename or {})
    folder = list_folder(src)
    cohort = _kind(kind, options).read(folder, options)
    cohort = usable_studies(cohort, folder)
    if region is not None:
        cohort = with_regions(folder, cohort, region)
    entries = sorted(cohort.entries, key=lambda entry: natural_key(entry.id))
    divisions = divide(entries, split, seed=seed)

    inside = src.resolve().is_relative_to(out.parent.resolve())
    root = out.parent if inside else src
    prefix = PurePosixPath(src.resolve().relative_to(out.parent.resolve()).as_posix() if inside else ".")
    planned = []
    for division in divisions:
        path = out.with_name(f"{out.stem}{division.suffix}.json")
        content = content_of(
            KINDS[kind].title or src.resolve().name, cohort, division, prefix, region_from_labels
        )
        planned.append((path, content, parse_manifest(content, path, root)))
    lists = [Path(split)] if split is not None and split.lower().endswith(".json") else []
    described = [src / file for file in folder.files if file.split("/")[-1] == "dataset.json"]
    _require_free([path for path, _, _ in planned], [*described, *lists], overwrite=overwrite)

    problems = [*cohort.problems, *_notes(cohort, entries, divisions, region_from_labels)]
    problems += unused_images(folder, cohort, problems)
    priors = []
    for path, content, made in planned:
        remove(_prior_file(path))  # of the manifest that is replaced
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        found, own = _own_prior(path, made, None if inside else src, track)
        problems += found
        priors += own
    done = dict.fromkeys(
        entry.id for division in divisions for part in division.splits.values() for entry in part
    )
    return Written(
        planned[0][0],
        tuple(done),
        tuple(problems),
        tuple(path for path, _, _ in planned),
        tuple(priors),
        None if inside else src,
    )


def _kind(name: str, options: Options) -> Kind:
    """The layout, if it knows all the options given."""
    if name not in KINDS and name in KINDS.problems:
        raise InputError.from_problems([replace(KINDS.problems[name], severity="error")])
    if name not in KINDS:
        raise unknown_kind(name)
    for option, flag in (("images", "--image"), ("label", "--label"), ("rename", "--rename")):
        if getattr(options, option) and option not in KINDS[name].options:
            fitting = [other for other, kind in KINDS.items() if option in kind.options]
            raise InputError(f"{flag} belongs to {' and '.join(fitting)}, not to {name}")
    return KINDS[name]


def unknown_kind(name: str) -> InputError:
    """Return the refusal of a layout that nobody knows."""
    known = [*KINDS, "dicom"]  # which is a job of its own
    expected = f"one of {', '.join(known)}"
    return InputError(f"unknown kind of folder '{name}'", expected=expected, remedy=near_misses(name, known))


def usable_studies(cohort: Cohort, folder: Folder) -> Cohort:
    """The cohort without studies that have no image, and without those of which two have one id.

    Raises:
        InputError: no study is left.
    """
    problems = [
        Problem(
            "the study has no image",
            entry.id,
            str(folder.root),
            expected=f"at least one of {', '.join(cohort.sequences)}",
            got=entry.label or entry.region,
            remedy="complete the download, or move this file out of the folder",
        )
        for entry in cohort.entries
        if not entry.images
    ]
    seen: dict[str, Entry] = {}
    twice = set()
    for entry in cohort.entries:
        other = seen.setdefault(entry.id.casefold(), entry)
        if other is not entry:
            twice.add(entry.id.casefold())
            files = [next(iter(found.images.values()), found.label) for found in (other, entry)]
            problems.append(
                Problem(
                    "the study id stands twice",
                    entry.id,
                    str(folder.root),
                    got=" and ".join(str(file) for file in files),
                    remedy="move one of them out of the folder",
                )
            )
    kept = tuple(entry for entry in cohort.entries if entry.images and entry.id.casefold() not in twice)
    if not kept:
        raise InputError.from_problems([*cohort.problems, *problems])
    return replace(cohort, entries=kept, problems=(*cohort.problems, *problems))


def unused_images(folder: Folder, cohort: Cohort, problems: Sequence[Problem]) -> list[Problem]:
    """Images of the folder that no study has and no problem names."""
    told = "\n".join(str(problem) for problem in problems if problem.severity != "note")
    said = set(re.split(r"[\s,()]+", told))
    used = {file for entry in cohort.entries for file in (*entry.images.values(), entry.label, entry.region)}
    used |= {*cohort.left_out}
    images = [file for file in folder.files if re.search(NIFTI + "$", file.lower())]
    unused = [
        file
        for file in images
        if file not in used and not any(word == file or word.endswith(f"/{file}") for word in said)
    ]
    foreign = [file for file in folder.files if file.lower().endswith(_FOREIGN)]
    what = "images of a format that is not read; convert them to .nii.gz"
    return [
        *(Problem(text, severity="note") for text in _lacking("NIfTI files of no study", unused)),
        *(Problem(text, severity="warning") for text in _lacking(what, foreign)),
    ]


def _require_free(paths: Sequence[Path], inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to replace an input at all, and results without being asked to."""
    require_not_input(*paths, inputs=inputs)
    existing = [file for path in paths for file in (path, _prior_file(path)) if file.exists()]
    if existing and not overwrite:
        raise InputError(
            "the output is already there",
            file=existing[0],
            expected="a new file",
            remedy="choose another -o, or allow to replace it with --overwrite",
        )


def content_of(
    title: str, cohort: Cohort, division: Division, prefix: PurePosixPath, rule: str | None
) -> dict[str, Any]:
    """A manifest as it is written."""
    return {
        "name": title,
        "modality": {str(i): name for i, name in enumerate(cohort.sequences)},
        "labels": labels_as_json(cohort.labels),
        **{
            name: [_study(entry, cohort.sequences, prefix, rule) for entry in entries]
            for name, entries in division.splits.items()
        },
    }


def _study(entry: Entry, sequences: Sequence[str], prefix: PurePosixPath, rule: str | None) -> dict[str, Any]:
    def path(file: str | None) -> str | None:
        return None if file is None else str(prefix / file)

    def image(name: str) -> Any:
        file = path(entry.images.get(name))
        return {"file": file, "frame": entry.frames[name]} if name in entry.frames else file

    study: dict[str, Any] = {"id": entry.id, "image": [image(name) for name in sequences]}
    if entry.region is not None:
        study["region"] = path(entry.region)
    elif rule is not None and entry.label is not None:
        study["region"] = {"rule": rule}
    if entry.label is not None:
        study["label"] = path(entry.label)
    if entry.patient != entry.id:
        study["patient"] = entry.patient
    if entry.visit is not None:
        study["visit"] = entry.visit
    return study


def _notes(
    cohort: Cohort, entries: Sequence[Entry], divisions: Sequence[Division], rule: str | None
) -> Iterator[Problem]:
    """Yield what is missing, one note for all the studies that lack it."""
    texts = list(cohort.notes)
    for name in cohort.sequences:
        texts += _lacking(f"no {name}", [e.id for e in entries if name not in e.images])
    texts += _lacking("no reference label", [e.id for e in entries if e.label is None])
    texts += _lacking(
        "no region map (--region, --region-from-labels), so the pretrained networks find the ventricle",
        [e.id for e in entries if e.region is None and (rule is None or e.label is None)],
    )
    texts += _lacking("in no split", divisions[0].left_out)
    if "test" not in divisions[0].splits:
        given = " and ".join(divisions[0].splits)
        texts.append(
            f"no study is in the split 'test', which predict and evaluate take: give them --split all "
            f"(here: {given}), or divide the studies with manifest --split ratio=0.7/0.1/0.2"
        )
    sides: dict[str, set[str]] = {}
    for name, part in divisions[0].splits.items():
        for entry in part:
            sides.setdefault(entry.patient, set()).add(name)
    texts += _lacking("patients in more than one split", [p for p, names in sides.items() if len(names) > 1])
    yield from (Problem(text, severity="warning") for text in texts)
    yield from quality.unknown_classes([*cohort.labels])
    yield from quality.unknown_sequences(cohort.sequences)
    yield from (Problem(text, severity="note") for text in cohort.matched)


def _lacking(what: str, ids: Sequence[str]) -> list[str]:
    return [f"{what}: {len(ids)} ({some_of(ids)})"] if ids else []


def _prior_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_prior.json")


def _own_prior(
    path: Path, cohort: Manifest, data_root: Path | None, track: Track
) -> tuple[list[Problem], list[Path]]:
    """A prior of the training studies where the shipped one comes from studies that are held out."""
    held_out = [*cohort.splits.get("validation", ()), *cohort.splits.get("test", ())]
    known = prior_overlap(default_prior().provenance, cohort, held_out).sure
    if not known:
        return [], []
    why = (
        f"the shipped population prior comes from {len(known)} of the studies that {path.name} holds out; "
        "evaluate with a prior of its training studies alone: "
    )
    file = _prior_file(path)
    try:
        made = prior(path, file, data_root=data_root, track=track)
    except InputError as error:
        reason = error.problems[0].what
        return [Problem(f"{why}mrigmm prior (not made here: {reason})", severity="warning")], []
    note = Problem(f"{why}give --prior {file} to train and to predict --method", severity="warning")
    return [note, *(replace(problem, severity="warning") for problem in made.problems)], [file]


def manifest_dicom(
    source: Path | str,
    out: Path | str,
    *,
    map_file: Path | str | None = None,
    pseudonyms: bool = False,
    labels: str | None = None,
    track: Track = no_progress,
) -> Outcome:
    """Find LGE, T2 and bSSFP series, write them as NIfTI, and a manifest with all studies under "test".

    The first run also writes `map.yaml` beside the manifest; corrected by the user and given as `map_file`,
    it decides instead of the rules. Region maps that are there as `regions/<id>.nii.gz` are entered, and
    with `labels` reference labels that are there as `labels/<id>.nii.gz`.

    Args:
        source: folder with DICOM files, in any order and depth.
        out: the manifest to write; images go to `images/` beside it.
        map_file: which series is which sequence.
        pseudonyms: number the studies instead of naming them by PatientID. Not with a map, which has the ids.
        labels: scheme of the ids of reference labels, as `manifest`.
        track: progress bar.

    Returns:
        `done` holds the studies of the manifest.

    Raises:
        InputError: pydicom is not installed, no folder, a wrong map, results of a first run that would
            be replaced, or no study at all.
    """
    from mrigmm.jobs.dicom.conversion import convert_dicom  # its packages are an extra

    return convert_dicom(source, out, map_file=map_file, pseudonyms=pseudonyms, labels=labels, track=track)
