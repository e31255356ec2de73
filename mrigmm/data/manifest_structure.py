"""The structure of a manifest: what may stand in it, and every problem of one that has something else."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigmm.data.manifest import SPLITS, Manifest, RegionRule, Study, check_study_id
from mrigmm.errors import Problem, near_misses
from mrigmm.labels import PARTS_OF_CLASSES, SCHEMES

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
_KEYS = ("modality", "labels", *SPLITS, *_DESCRIPTIVE_KEYS)
_STUDY_KEYS = ("id", "image", "region", "label", "patient", "visit", "scribbles")
_IMAGE_KEYS = ("file", "frame")
_MAX_LABEL_ID = 2**31  # exclusive; of any sign
_MAX_KEYS_NAMED = 20
_MAX_CLASSES = 255  # label maps are uint8


_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # a drive or a share


def on_disk(root: Path, value: str) -> Path:
    """Return the file that a path in a manifest means: as written where that is there.

    Else with the separators of Windows taken for such, and with names whose accents are written in the other
    form of Unicode (one letter or two).
    """
    path = root / value
    if _is_there(path):
        return path
    path = root / value.replace("\\", "/")
    if value.isascii() or _is_there(path):
        return path
    found = Path(path.anchor)
    for name in path.parts[1:]:
        found = found / (name if _is_there(found / name) else _as_written(found, name))
    return found


def _as_written(folder: Path, name: str) -> str:
    """The entry of a folder that is this name in another form of Unicode; else the name."""
    plain = unicodedata.normalize("NFC", name)
    there = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return next((entry for entry in there if unicodedata.normalize("NFC", entry) == plain), name)


def _is_there(path: Path) -> bool:
    """Return whether a file or folder is there; a name that the file system refuses is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


class ManifestStructure:
    """Collects problems while turning parsed JSON into a `Manifest`.

    Attributes:
        problems: what was found wrong so far.
    """

    def __init__(self, path: Path, root: Path) -> None:
        """Take the manifest of a file, whose paths resolve against a folder (absolute)."""
        self._path, self._root = path, root
        self.problems: list[Problem] = []

    def manifest(self, content: dict[str, Any]) -> Manifest:
        """The manifest, to be used only where no problem was found."""
        self._unknown_keys(content, _KEYS)
        sequences = self._sequences(content.get("modality"))
        labels = self.labels(content.get("labels"))
        splits = {name: tuple(self._studies(name, content.get(name), sequences)) for name in SPLITS}
        if not any(content.get(name) for name in SPLITS):
            self._problem("the manifest names no study", expected=f"a list under one of {', '.join(SPLITS)}")
        self._unique_ids(splits)
        name = content.get("name")
        return Manifest(self._path, sequences, labels, splits, name if isinstance(name, str) else "")

    def _problem(self, what: str, study: str | None = None, **fields: str | None) -> None:
        self.problems.append(Problem(what, study, str(self._path), **fields))  # type: ignore[arg-type]

    def _unknown_keys(self, entry: Mapping[str, Any], known: Sequence[str], study: str | None = None) -> None:
        unknown = [key for key in entry if key not in known]
        for key in unknown[:_MAX_KEYS_NAMED]:
            self._problem(f"unknown key '{key}'", study, remedy=near_misses(key, known))
        if len(unknown) > _MAX_KEYS_NAMED:
            self._problem(f"{len(unknown) - _MAX_KEYS_NAMED} further unknown keys", study)

    def _sequences(self, modality: object) -> tuple[str, ...]:
        example = '{"0": "LGE", "1": "T2", "2": "bSSFP"}'
        if not isinstance(modality, dict) or not modality:
            self._problem("'modality' must name the sequences", expected=example, got=json.dumps(modality))
            return ()
        if sorted(modality) != sorted(str(i) for i in range(len(modality))):
            self._problem(
                "the keys of 'modality' must count from 0", expected=example, got=", ".join(sorted(modality))
            )
            return ()
        names = [modality[str(i)] for i in range(len(modality))]
        if not all(isinstance(name, str) and _is_name(name) for name in names):
            self._problem("a sequence name must be a non-empty, printable text", got=json.dumps(names))
            return ()
        if len(set(names)) < len(names):
            self._problem("a sequence name stands twice in 'modality'", got=", ".join(names))
            return ()
        return tuple(names)

    def labels(self, labels: object) -> dict[str, tuple[int, ...]]:
        """Class name -> ids, background among them."""
        if labels is None:
            return {}
        if isinstance(labels, str):
            if labels not in SCHEMES:
                self._problem(f"unknown label scheme '{labels}'", remedy=near_misses(labels, list(SCHEMES)))
                return {}
            return dict(SCHEMES[labels])
        example = 'class name -> id or list of ids, e.g. {"background": 0, "blood": 1, "scar": [3, 4]}'
        if not isinstance(labels, dict):
            self._problem("'labels' must map class names to ids", expected=example, got=json.dumps(labels))
            return {}
        result: dict[str, tuple[int, ...]] = {}
        for name, value in labels.items():
            ids = value if isinstance(value, list) else [value]
            # An empty list is a class of the mixture that the reference labels do not know.
            if not _is_name(name):
                self._problem("a class name must be a non-empty, printable text", got=json.dumps(name))
                continue
            if not all(type(i) is int and abs(i) < _MAX_LABEL_ID for i in ids):
                self._problem(f"label '{name}' has no valid id", expected=example, got=json.dumps(value))
                continue
            result[name] = tuple(ids)
        used = [i for name, ids in result.items() if name not in PARTS_OF_CLASSES for i in ids]
        for repeated in sorted({i for i in used if used.count(i) > 1}):
            self._problem(f"the label id {repeated} is given more than once")
        for name in PARTS_OF_CLASSES:
            if 0 in result.get(name, ()):
                self._problem(f"the label id 0 is the background and cannot be '{name}'")
        if 0 not in used:
            result = {"background": (0, *result.pop("background", ()))} | result
        elif 0 not in result.get("background", ()):
            self._problem("the label id 0 is the background and cannot be a class")
        if len(result) > _MAX_CLASSES:
            self._problem(
                "there are more classes than a label map can hold",
                expected=f"at most {_MAX_CLASSES} names under 'labels'",
                got=str(len(result)),
            )
        return result

    def _studies(self, split: str, entries: object, sequences: tuple[str, ...]) -> Iterator[Study]:
        if entries is None:
            return
        if not isinstance(entries, list):
            self._problem(f"'{split}' must be a list of studies", got=type(entries).__name__)
            return
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict):
                self._problem(
                    f"{split}[{index}] must be an object",
                    expected='{"id": ..., "image": [...], "region": ..., "label": ...}',
                    got=json.dumps(entry),
                )
                continue
            reason = check_study_id(entry.get("id"))
            if reason:
                self._problem(f"{split}[{index}]: {reason}", got=json.dumps(entry.get("id")))
                continue
            yield self._study(unicodedata.normalize("NFC", entry["id"]), entry, sequences)

    def _study(self, study_id: str, entry: dict[str, Any], sequences: tuple[str, ...]) -> Study:
        self._unknown_keys(entry, _STUDY_KEYS, study_id)
        # Without valid sequence names every image would be one more problem.
        images, frames = self._images(study_id, entry.get("image"), sequences) if sequences else ({}, {})
        return Study(
            id=study_id,
            images=images,
            region=self._region(study_id, entry.get("region")),
            label=self._file(study_id, "label", entry.get("label")),
            patient=self._text(study_id, entry, "patient"),
            visit=self._text(study_id, entry, "visit"),
            frames=frames,
            scribbles=self._file(study_id, "scribbles", entry.get("scribbles")),
        )

    def _text(self, study_id: str, entry: Mapping[str, Any], key: str) -> str | None:
        text = entry.get(key)
        if text is not None and not (isinstance(text, str) and text.strip()):
            self._problem(f"'{key}' must be a non-empty text", study_id, got=json.dumps(text))
            return None
        return text

    def _region(self, study_id: str, region: object) -> Path | RegionRule | None:
        if not isinstance(region, dict):
            return self._file(study_id, "region", region)
        if set(region) == {"rule"} and region["rule"] in RegionRule.KINDS:
            return RegionRule(region["rule"])
        self._problem(
            "unknown region rule",
            study_id,
            expected=" or ".join(f'{{"rule": "{kind}"}}' for kind in RegionRule.KINDS),
            got=json.dumps(region),
        )
        return None

    def _images(
        self, study_id: str, image: object, sequences: tuple[str, ...]
    ) -> tuple[dict[str, Path], dict[str, int]]:
        """File of each sequence, and the frame where one is named."""
        if isinstance(image, str):
            image = [image]
        if isinstance(image, list):
            if len(image) != len(sequences):
                self._problem(
                    "the list of images does not fit 'modality'",
                    study_id,
                    expected=f"{len(sequences)} entries ({', '.join(sequences)}), null for a missing one",
                    got=f"{len(image)} entries",
                )
                return {}, {}
            image = dict(zip(sequences, image, strict=True))
        if not isinstance(image, dict):
            self._problem("'image' must name the files of the sequences", study_id, got=json.dumps(image))
            return {}, {}
        found: dict[str, Path] = {}
        frames: dict[str, int] = {}
        before = len(self.problems)
        for name, value in image.items():
            if name not in sequences:
                self._problem(
                    f"unknown sequence name '{name}'",
                    study_id,
                    expected=f"one of {', '.join(sequences)}",
                    remedy=near_misses(name, sequences),
                )
                continue
            if isinstance(value, dict) and "file" in value:
                frame = self._frame(study_id, name, value)
                if frame is not None:
                    frames[name] = frame
                value = value["file"]
            file = self._file(study_id, name, value)
            if file is not None:
                found[name] = file
        if not found and len(self.problems) == before:
            self._problem("the study has no image", study_id)
        return {name: found[name] for name in sequences if name in found}, frames

    def _frame(self, study_id: str, name: str, entry: dict[str, Any]) -> int | None:
        for key in entry:
            if key not in _IMAGE_KEYS:
                self._problem(f"{name}: unknown key '{key}'", study_id, remedy=near_misses(key, _IMAGE_KEYS))
        frame = entry.get("frame")
        if frame is None or (type(frame) is int and frame >= 0):
            return frame
        self._problem(
            f"{name}: a frame must be a whole number from 0", study_id, expected="0", got=json.dumps(frame)
        )
        return None

    def _file(self, study_id: str, role: str, value: object) -> Path | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or "\x00" in value:
            self._problem(f"{role}: a path must be a non-empty text", study_id, got=json.dumps(value))
            return None
        try:
            inside = on_disk(self._root, value)
            leads_out = not inside.resolve().is_relative_to(self._root)
        except (OSError, RuntimeError, ValueError) as error:  # cyclic links, names that cannot be encoded
            self._problem(f"{role}: the path cannot be resolved", study_id, got=f"{value} ({error})")
            return None
        if leads_out or (_OF_WINDOWS.match(value) and not _is_there(inside)):
            self._problem(
                "the path leads out of the data folder",
                study_id,
                expected=f"a path inside {self._root}, links followed",
                got=f"{role}: {value}",
                remedy="name the folder that holds the data with --data-root; paths are relative to it, or "
                "absolute and inside it",
            )
            return None
        return inside

    def _unique_ids(self, splits: Mapping[str, tuple[Study, ...]]) -> None:
        seen: dict[str, str] = {}
        for split, studies in splits.items():
            for study in studies:
                key = study.id.strip().casefold()  # file systems ignore case, and eyes a blank at the end
                if key in seen:
                    self._problem(
                        "the study id stands twice", study.id, got=f"in '{seen[key]}' and in '{split}'"
                    )
                seen[key] = split


def _is_name(name: str) -> bool:
    """Return whether a text can name a class or a sequence in tables, files and messages."""
    return bool(name.strip()) and name.isprintable()
