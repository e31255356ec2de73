"""The manifest: a MONAI/Decathlon datalist in JSON, read strictly.

Format and rules stand in `docs/data.md`. Everything wrong with the *structure* of a manifest is
reported at once; whether the files it names are usable is decided when a study is read, so that one
bad study does not stop a cohort.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrigmm.errors import InputError, Problem, near_misses
from mrigmm.labels import AUXILIARY_NAMES, PARTS_OF_CLASSES, SCHEMES

SPLITS = ("training", "validation", "test")
_REQUIRED_KEYS = ("modality",)
# Keys of the Decathlon format that describe and that nothing here depends on.
_DESCRIPTIVE_KEYS = (
    "name",
    "description",
    "reference",
    "licence",
    "license",
    "release",
    "tensorImageSize",
    "numTraining",
    "numTest",
    "numValidation",
)
_KEYS = (*_REQUIRED_KEYS, "labels", *SPLITS, *_DESCRIPTIVE_KEYS)
_STUDY_KEYS = ("id", "image", "region", "label", "patient", "scribbles")
_IMAGE_KEYS = ("file", "frame")
_MAX_ID_BYTES = 150  # leaves room for suffixes within the 255 bytes of common file systems
# File names that Windows keeps for itself, with any suffix.
_DEVICE_NAMES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
_MAX_LABEL_ID = 2**31  # exclusive; of any sign
_MAX_KEYS_NAMED = 20
_MAX_CLASSES = 255  # label maps are uint8


@dataclass(frozen=True)
class RegionRule:
    """How to derive a region map that no file holds.

    Attributes:
        kind: "lv" (1 where the reference label is a class of the cohort), "cavity-wall" (1 where it
            is blood, 2 where it is another class) or "nonzero" (1 where every sequence is above 0,
            for skull-stripped and masked images).
    """

    kind: str

    KINDS = ("lv", "cavity-wall", "nonzero")


@dataclass(frozen=True)
class Study:
    """One patient examination as the manifest names it: files only, nothing is read yet."""

    id: str
    images: Mapping[str, Path]  # sequence name -> file; a missing sequence is absent
    region: Path | RegionRule | None = None
    label: Path | None = None
    patient: str | None = None  # None: the study is the patient's only one
    frames: Mapping[str, int] = field(default_factory=dict)  # which frame, from 0, of a file with several
    scribbles: Path | None = None  # classes that a user named in a few voxels


@dataclass(frozen=True)
class Manifest:
    """A cohort: sequences in channel order, label ids per class, studies per split."""

    path: Path
    sequences: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]]
    splits: Mapping[str, tuple[Study, ...]] = field(default_factory=dict)
    name: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names that the manifest declares, without background and auxiliary structures."""
        return tuple(name for name in self.labels if name not in AUXILIARY_NAMES)

    def split(self, name: str) -> tuple[Study, ...]:
        """Studies of one split, or of all splits for "all".

        Raises:
            InputError: for an unknown or empty split.
        """
        if name == "all":
            return tuple(study for studies in self.splits.values() for study in studies)
        if name not in SPLITS:
            raise InputError(
                f"unknown split '{name}'", file=self.path, remedy=near_misses(name, (*SPLITS, "all"))
            )
        studies = self.splits.get(name, ())
        if not studies:
            filled = [f"{split} ({len(found)})" for split, found in self.splits.items() if found]
            raise InputError(
                f"the split '{name}' has no studies",
                file=self.path,
                expected="at least one study",
                got=f"studies in: {', '.join(filled) or 'no split'}",
                remedy=f"put studies under '{name}' in the manifest, or choose another split where the "
                "command has --split (all: every study)",
            )
        return studies


def read_manifest(path: Path, data_root: Path | None = None) -> Manifest:
    """Read a manifest and check its structure.

    Args:
        path: the JSON file.
        data_root: folder that the paths inside resolve against; default the manifest's own folder.

    Raises:
        InputError: with every structural problem found.
    """
    content = _load_json(path)
    root = path.parent if data_root is None else data_root
    if not root.is_dir():
        raise InputError("the data root is not a folder", file=root, remedy="give an existing folder")
    return parse_manifest(content, path, root)


def parse_manifest(content: dict[str, Any], path: Path, root: Path) -> Manifest:
    """Check the structure of a manifest's content.

    Args:
        content: parsed JSON.
        path: the file that it stands in, or will be written to.
        root: folder that the paths inside resolve against.

    Raises:
        InputError: with every structural problem found.
    """
    reader = _Reader(path, root.resolve())
    manifest = reader.manifest(content)
    if reader.problems:
        raise InputError.from_problems(reader.problems)
    return manifest


def check_study_id(study_id: object) -> str | None:
    """Reason why a study id cannot be used in file names, or None when it can."""
    if not isinstance(study_id, str) or not study_id.strip():
        return "a study id must be a non-empty text"
    # First: what cannot be printed cannot always be encoded.
    if study_id.startswith(".") or not study_id.isprintable() or re.search(r'[/\\:*?"<>|]', study_id):
        return 'a study id becomes a file name: no leading dot, no / \\ : * ? " < > |, no control characters'
    if study_id.split(".")[0].strip().upper() in _DEVICE_NAMES:
        return "a study id becomes a file name: Windows keeps CON, PRN, AUX, NUL, COM1 and LPT1 for itself"
    if len(study_id.encode()) > _MAX_ID_BYTES:
        return f"a study id may have at most {_MAX_ID_BYTES} bytes"
    return None


def _is_name(name: str) -> bool:
    """Whether a text can name a class or a sequence in tables, files and messages."""
    return bool(name.strip()) and name.isprintable()


def _load_json(path: Path) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        if repeated:
            raise InputError(
                f"the key '{repeated[0]}' stands twice in one object",
                file=path,
                remedy="keep one of them: JSON readers silently drop the other",
            )
        return dict(pairs)

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=no_duplicates)
    except FileNotFoundError:
        raise InputError("the manifest does not exist", file=path, remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the manifest cannot be read",
            file=path,
            got="a folder" if path.is_dir() else str(error),
            remedy="give the JSON file (docs/data.md)",
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the manifest is not valid JSON", file=path, got=str(error), remedy="see docs/data.md"
        ) from None
    if not isinstance(content, dict):
        raise InputError(
            "the manifest is not a JSON object",
            file=path,
            expected='{"modality": ..., "training": [...]}',
            got=type(content).__name__,
            remedy="see docs/data.md",
        )
    return content


class _Reader:
    """Collects problems while turning parsed JSON into a `Manifest`."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root = path, root
        self.problems: list[Problem] = []

    def problem(self, what: str, study: str | None = None, **fields: str | None) -> None:
        self.problems.append(Problem(what, study, str(self.path), **fields))  # type: ignore[arg-type]

    def unknown_keys(self, entry: Mapping[str, Any], known: Sequence[str], study: str | None = None) -> None:
        unknown = [key for key in entry if key not in known]
        for key in unknown[:_MAX_KEYS_NAMED]:
            self.problem(f"unknown key '{key}'", study, remedy=near_misses(key, known))
        if len(unknown) > _MAX_KEYS_NAMED:
            self.problem(f"{len(unknown) - _MAX_KEYS_NAMED} further unknown keys", study)

    def manifest(self, content: dict[str, Any]) -> Manifest:
        self.unknown_keys(content, _KEYS)
        sequences = self.sequences(content.get("modality"))
        labels = self.labels(content.get("labels"))
        splits = {name: tuple(self.studies(name, content.get(name), sequences)) for name in SPLITS}
        if not any(content.get(name) for name in SPLITS):
            self.problem("the manifest names no study", expected=f"a list under one of {', '.join(SPLITS)}")
        self.unique_ids(splits)
        name = content.get("name")
        return Manifest(self.path, sequences, labels, splits, name if isinstance(name, str) else "")

    def sequences(self, modality: object) -> tuple[str, ...]:
        example = '{"0": "LGE", "1": "T2", "2": "bSSFP"}'
        if not isinstance(modality, dict) or not modality:
            self.problem("'modality' must name the sequences", expected=example, got=json.dumps(modality))
            return ()
        if sorted(modality) != sorted(str(i) for i in range(len(modality))):
            self.problem(
                "the keys of 'modality' must count from 0", expected=example, got=", ".join(sorted(modality))
            )
            return ()
        names = [modality[str(i)] for i in range(len(modality))]
        if not all(isinstance(name, str) and _is_name(name) for name in names):
            self.problem("a sequence name must be a non-empty, printable text", got=json.dumps(names))
            return ()
        if len(set(names)) < len(names):
            self.problem("a sequence name stands twice in 'modality'", got=", ".join(names))
            return ()
        return tuple(names)

    def labels(self, labels: object) -> dict[str, tuple[int, ...]]:
        if labels is None:
            return {}
        if isinstance(labels, str):
            if labels not in SCHEMES:
                self.problem(f"unknown label scheme '{labels}'", remedy=near_misses(labels, list(SCHEMES)))
                return {}
            return dict(SCHEMES[labels])
        example = 'class name -> id or list of ids, e.g. {"background": 0, "blood": 1, "scar": [3, 4]}'
        if not isinstance(labels, dict):
            self.problem("'labels' must map class names to ids", expected=example, got=json.dumps(labels))
            return {}
        result: dict[str, tuple[int, ...]] = {}
        for name, value in labels.items():
            ids = value if isinstance(value, list) else [value]
            # An empty list is a class of the mixture that the reference labels do not know.
            if not _is_name(name):
                self.problem("a class name must be a non-empty, printable text", got=json.dumps(name))
                continue
            if not all(type(i) is int and abs(i) < _MAX_LABEL_ID for i in ids):
                self.problem(f"label '{name}' has no valid id", expected=example, got=json.dumps(value))
                continue
            result[name] = tuple(ids)
        used = [i for name, ids in result.items() if name not in PARTS_OF_CLASSES for i in ids]
        for repeated in sorted({i for i in used if used.count(i) > 1}):
            self.problem(f"the label id {repeated} is given more than once")
        for name in PARTS_OF_CLASSES:
            if 0 in result.get(name, ()):
                self.problem(f"the label id 0 is the background and cannot be '{name}'")
        if 0 not in used:
            result = {"background": (0, *result.pop("background", ()))} | result
        elif 0 not in result.get("background", ()):
            self.problem("the label id 0 is the background and cannot be a class")
        if len(result) > _MAX_CLASSES:
            self.problem(
                "there are more classes than a label map can hold",
                expected=f"at most {_MAX_CLASSES} names under 'labels'",
                got=str(len(result)),
            )
        return result

    def studies(self, split: str, entries: object, sequences: tuple[str, ...]) -> Iterator[Study]:
        if entries is None:
            return
        if not isinstance(entries, list):
            self.problem(f"'{split}' must be a list of studies", got=type(entries).__name__)
            return
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self.problem(
                    f"{split}[{index}] must be an object",
                    expected='{"id": ..., "image": [...], "region": ..., "label": ...}',
                    got=json.dumps(entry),
                )
                continue
            reason = check_study_id(entry.get("id"))
            if reason:
                self.problem(f"{split}[{index}]: {reason}", got=json.dumps(entry.get("id")))
                continue
            yield self.study(entry["id"], entry, sequences)

    def study(self, study_id: str, entry: dict[str, Any], sequences: tuple[str, ...]) -> Study:
        self.unknown_keys(entry, _STUDY_KEYS, study_id)
        # Without valid sequence names every image would be one more problem.
        images, frames = self.images(study_id, entry.get("image"), sequences) if sequences else ({}, {})
        return Study(
            id=study_id,
            images=images,
            region=self.region(study_id, entry.get("region")),
            label=self.file(study_id, "label", entry.get("label")),
            patient=self.patient(study_id, entry.get("patient")),
            frames=frames,
            scribbles=self.file(study_id, "scribbles", entry.get("scribbles")),
        )

    def patient(self, study_id: str, patient: object) -> str | None:
        if patient is not None and not (isinstance(patient, str) and patient.strip()):
            self.problem("'patient' must be a non-empty text", study_id, got=json.dumps(patient))
            return None
        return patient

    def region(self, study_id: str, region: object) -> Path | RegionRule | None:
        if not isinstance(region, dict):
            return self.file(study_id, "region", region)
        if set(region) == {"rule"} and region["rule"] in RegionRule.KINDS:
            return RegionRule(region["rule"])
        self.problem(
            "unknown region rule",
            study_id,
            expected=" or ".join(f'{{"rule": "{kind}"}}' for kind in RegionRule.KINDS),
            got=json.dumps(region),
        )
        return None

    def images(
        self, study_id: str, image: object, sequences: tuple[str, ...]
    ) -> tuple[dict[str, Path], dict[str, int]]:
        """File of each sequence, and the frame where one is named."""
        if isinstance(image, str):
            image = [image]
        if isinstance(image, list):
            if len(image) != len(sequences):
                self.problem(
                    "the list of images does not fit 'modality'",
                    study_id,
                    expected=f"{len(sequences)} entries ({', '.join(sequences)}), null for a missing one",
                    got=f"{len(image)} entries",
                )
                return {}, {}
            image = dict(zip(sequences, image, strict=True))
        if not isinstance(image, dict):
            self.problem("'image' must name the files of the sequences", study_id, got=json.dumps(image))
            return {}, {}
        found: dict[str, Path] = {}
        frames: dict[str, int] = {}
        before = len(self.problems)
        for name, value in image.items():
            if name not in sequences:
                self.problem(
                    f"unknown sequence name '{name}'",
                    study_id,
                    expected=f"one of {', '.join(sequences)}",
                    remedy=near_misses(name, sequences),
                )
                continue
            if isinstance(value, dict) and "file" in value:
                frame = self.frame(study_id, name, value)
                if frame is not None:
                    frames[name] = frame
                value = value["file"]
            file = self.file(study_id, name, value)
            if file is not None:
                found[name] = file
        if not found and len(self.problems) == before:
            self.problem("the study has no image", study_id)
        return {name: found[name] for name in sequences if name in found}, frames

    def frame(self, study_id: str, name: str, entry: dict[str, Any]) -> int | None:
        for key in entry:
            if key not in _IMAGE_KEYS:
                self.problem(f"{name}: unknown key '{key}'", study_id, remedy=near_misses(key, _IMAGE_KEYS))
        frame = entry.get("frame")
        if frame is None or (type(frame) is int and frame >= 0):
            return frame
        self.problem(
            f"{name}: a frame must be a whole number from 0", study_id, expected="0", got=json.dumps(frame)
        )
        return None

    def file(self, study_id: str, role: str, value: object) -> Path | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or "\x00" in value:
            self.problem(f"{role}: a path must be a non-empty text", study_id, got=json.dumps(value))
            return None
        inside = self.root / value
        try:
            leads_out = not inside.resolve().is_relative_to(self.root)
        except (OSError, RuntimeError, ValueError) as error:  # cyclic links, names that cannot be encoded
            self.problem(f"{role}: the path cannot be resolved", study_id, got=f"{value} ({error})")
            return None
        if Path(value).is_absolute() or leads_out:
            self.problem(
                f"{role}: the path leads out of the data folder",
                study_id,
                expected=f"a path relative to {self.root} that stays inside (links followed)",
                got=value,
                remedy="write relative paths, and name the folder that holds the data with --data-root",
            )
            return None
        return inside

    def unique_ids(self, splits: Mapping[str, tuple[Study, ...]]) -> None:
        seen: dict[str, str] = {}
        for split, studies in splits.items():
            for study in studies:
                # Some file systems ignore case and how an accent is written.
                key = unicodedata.normalize("NFC", study.id).casefold()
                if key in seen:
                    self.problem(
                        "the study id stands twice", study.id, got=f"in '{seen[key]}' and in '{split}'"
                    )
                seen[key] = split
