"""What the catalogue's tables are made of, and what holds for every case.

A case says how a study, a manifest or a request is spoilt, and how each command has to end: with an error
whose message names study, file and remedy, or with a correct result.
"""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..conftest import Cli, CliResult, Workshop, intensities, oblique_affine, save_nifti, ventricle

SHAPE = (20, 24, 3)
TRUTH = ventricle(SHAPE)
LV = (TRUTH > 0).astype(np.uint8)
# Offsets of header fields in NIfTI-1.
FIELDS = {
    "sizeof_hdr": 0,
    "dim": 40,
    "datatype": 70,
    "bitpix": 72,
    "pixdim": 76,
    "vox_offset": 108,
    "scl_slope": 112,
    "scl_inter": 116,
    "xyzt_units": 123,
    "qform_code": 252,
    "sform_code": 254,
    "quatern_b": 256,
    "srow_x": 280,
    "magic": 344,
}


def contents(folder: Path) -> dict[str, Any]:
    """What the files of a folder of results say, by name; without when and how the command was started."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        found[path.name] = path.read_bytes()
        if path.suffix == ".json" and path.name != "quantities.json":
            side = json.loads(path.read_text())
            found[path.name] = {key: side[key] for key in side if key not in ("seconds", "command")}
    return found


@dataclass
class Place:
    """A cohort of the studies "good" and "bad" in a folder, of which a case spoils the second."""

    workshop: Workshop
    good: dict[str, Any]
    bad: dict[str, Any]
    out: Path

    @property
    def folder(self) -> Path:
        return self.workshop.folder

    def file(self, role: str) -> Path:
        """A file of the bad study: of a sequence, "region" or "label"."""
        return self.folder / (self.bad[role] if role in ("region", "label") else self.bad["image"][role])

    def data(self, role: str) -> np.ndarray:
        """What the file holds."""
        return np.asarray(nib.load(self.file(role)).dataobj)

    def volume(self, role: str, data: np.ndarray, affine: np.ndarray | None = None, **options: Any) -> None:
        """Replace a file of the bad study."""
        save_nifti(self.file(role), data, oblique_affine() if affine is None else affine, **options)

    def manifest(self, split: str = "test", studies: Sequence[dict[str, Any]] | None = None) -> Path:
        entries = [self.good, self.bad] if studies is None else studies
        return (
            self.workshop.manifest(entries)
            if split == "test"
            else self.workshop.manifest([], **{split: entries})
        )


def place_in(folder: Path) -> Place:
    """A clean place."""
    (folder / "data").mkdir(parents=True)
    workshop = Workshop(folder / "data")
    good = workshop.study("good", shape=SHAPE, seed=1)
    bad = workshop.study("bad", shape=SHAPE, seed=2)
    return Place(workshop, good, bad, folder / "out")


Spoil = Callable[[Place], object]


@dataclass(frozen=True)
class StudyCase:
    """One bad or odd study.

    Attributes:
        name: for people.
        spoil: makes the study so.
        refused: part of the error's first line; None: the study is segmented.
        file: role of the file that the message names; None: any of the study, or none.
        got: part of what the message says it found.
        remedy: part of the message's remedy.
        same: the label map is that of the clean study, on the grid of the file.
        note: part of what `predict` notes about a study that it segments.
        check: exit code of `check`.
        commands: beside `check` and `predict`: "prior", "evaluate", "files" (predict --image).
        method: of `predict`.
        result: what a segmented study gives, for the table of the documentation.
    """

    name: str
    spoil: Spoil
    refused: str | None = None
    file: str | None = None
    got: str = ""
    remedy: str = ""
    same: bool = False
    note: str = ""
    check: int | None = None
    commands: tuple[str, ...] = ()
    method: str = "map-em"
    result: str = ""

    @property
    def outcome(self) -> str:
        if self.refused is not None:
            return "refused, naming the file" if self.refused == self.file else f"refused: {self.refused}"
        return self.result or ("the labels of the clean study" if self.same else "segmented")


def identified(case: Any) -> str:
    """A test's name."""
    return re.sub(r"\W+", "-", case.name)


def assert_clean(result: CliResult, code: int) -> None:
    """No traceback, no error that nobody foresaw, no leaked warning, no control character; the exit code."""
    text = result.out + result.err
    assert "Traceback" not in text, text
    assert "unexpected" not in text, text
    assert "Warning" not in text, text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), repr(text)
    assert result.code == code, (result.code, text)


# Written beside the studies' own files.
OF_THE_COHORT = {
    "labels_itksnap.txt",
    "labels_slicer.ctbl",
    "quantities.json",
    "quantities.csv",
    "quantities_dictionary.csv",
    "quantities_intervals.csv",
    "segments.csv",
}


def assert_nothing_half(out: Path, studies: Sequence[str]) -> None:
    """Only whole results of these studies are there, beside why others failed."""
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    names = {name for name in names if not name.endswith("_failed.json")}
    if not studies:
        assert not names
        return
    expected = {f"{study}{suffix}" for study in studies for suffix in ("_labels.nii.gz", ".json")}
    assert expected <= names
    assert not [name for name in names if name.startswith(".") or "partial" in name or "tmp" in name]
    owned = names - OF_THE_COHORT
    assert all(name.startswith(tuple(studies)) for name in owned), owned


def messages(err: str) -> list[dict[str, str]]:
    """The errors of a command by their parts."""
    found: list[dict[str, str]] = []
    for line in err.splitlines():
        if line.startswith("error: "):
            found.append({"what": line.removeprefix("error: ")})
        elif line.startswith("  ") and found and ": " in line:
            name, _, value = line.strip().partition(": ")
            found[-1].setdefault(name, value)
    return found


def assert_study_case(case: StudyCase, cli: Cli, place: Place, clean_labels: np.ndarray) -> None:
    """Check the cohort, segment it, and whatever else the case names."""
    case.spoil(place)
    manifest = place.manifest()
    checked = cli("check", manifest)
    assert_clean(checked, (0 if case.refused is None else 1) if case.check is None else case.check)
    if case.refused is not None and case.check is None:
        assert "1 study without errors" in checked.out
    predicted = cli("predict", manifest, "-o", place.out, "--method", case.method)
    if case.refused is None:
        assert_clean(predicted, 0)
        assert_nothing_half(place.out, ("good", "bad"))
        assert case.note in predicted.err
        _assert_labels(case, place, clean_labels)
    else:
        assert_clean(predicted, 2)
        _assert_message(case, predicted, place)
        assert_nothing_half(place.out, ("good",))
        assert "1 study could not be processed" in predicted.err
    for command in case.commands:
        assert_command(command, case, cli, place)


def _assert_message(case: StudyCase, result: CliResult, place: Place) -> None:
    found = [message for message in messages(result.err) if (case.refused or "") in message["what"]]
    assert found, result.err
    message = found[0]
    assert message["study"] == "bad"
    assert case.got in message.get("got", ""), message
    assert case.remedy in message.get("remedy", ""), message
    assert message.get("remedy"), message
    if case.file is not None:
        assert message["file"] == str(place.file(case.file))


def _assert_labels(case: StudyCase, place: Place, clean_labels: np.ndarray) -> None:
    reference = nib.load(place.file("LGE" if "LGE" in place.bad["image"] else "T2"))
    labels = nib.load(place.out / "bad_labels.nii.gz")
    assert labels.shape == reference.shape[: len(labels.shape)]
    np.testing.assert_allclose(labels.affine, reference.affine, rtol=1e-5, atol=1e-5)
    if case.same:
        found = np.asarray(nib.as_closest_canonical(labels).dataobj)
        expected = nib.as_closest_canonical(nib.Nifti1Image(clean_labels, oblique_affine()))
        np.testing.assert_array_equal(found, np.asarray(expected.dataobj))


def assert_command(command: str, case: StudyCase, cli: Cli, place: Place) -> None:
    """What another command says about the study."""
    manifest = place.manifest()
    code = 0 if case.refused is None else 2
    if command == "prior":
        target = place.out.with_name("prior.json")
        result = cli("prior", manifest, "-o", target, "--split", "test")
        assert_clean(result, code)
        assert target.exists()  # of the good study
    elif command == "evaluate":
        result = cli("evaluate", place.out, manifest)
        assert_clean(result, code)
        assert (place.out / "metrics.json").exists()
    else:
        assert command == "files"
        out = place.out.with_name("single")
        single = place.workshop.single(place.bad)
        result = cli("predict", *single, "-o", out, "--id", "bad", "--method", case.method)
        assert_clean(result, code)
        assert_nothing_half(out, ("bad",) if case.refused is None else ())
    if case.refused is not None:
        _assert_message(case, result, place)


# How files are spoilt.


def patched(role: str, **values: tuple[str, Any]) -> Spoil:
    """Overwrite header fields of a gzipped file: name=(struct pattern, value or values)."""

    def spoil(place: Place) -> None:
        raw = bytearray(gzip.decompress(place.file(role).read_bytes()))
        for name, (pattern, value) in values.items():
            several = value if isinstance(value, tuple | list) else (value,)
            struct.pack_into("<" + pattern, raw, FIELDS[name], *several)
        place.file(role).write_bytes(gzip.compress(bytes(raw)))

    return spoil


def rewritten(role: str, change: Callable[[bytes], bytes]) -> Spoil:
    """Change the bytes inside a gzipped file."""

    def spoil(place: Place) -> None:
        raw = change(gzip.decompress(place.file(role).read_bytes()))
        place.file(role).write_bytes(gzip.compress(raw))

    return spoil


def as_bytes(role: str, content: bytes) -> Spoil:
    """Replace a file by these bytes."""
    return lambda place: place.file(role).write_bytes(content)


def with_data(role: str, change: Callable[[np.ndarray], np.ndarray], **options: Any) -> Spoil:
    """Change the voxels of a file."""
    return lambda place: place.volume(role, change(place.data(role)), **options)


def every(roles: Sequence[str], spoil: Callable[[str], Spoil]) -> Spoil:
    """Spoil several files in one way."""

    def both(place: Place) -> None:
        for role in roles:
            spoil(role)(place)

    return both


ALL_FILES = ("LGE", "T2", "bSSFP", "region", "label")


def reshaped(shape: Sequence[int], region: np.ndarray | None = None) -> Spoil:
    """The whole study at another size, with a region of its own."""

    def spoil(place: Place) -> None:
        label = ventricle((*shape, 1)[:3]).reshape(shape)
        for role in ("LGE", "T2", "bSSFP"):
            place.volume(role, intensities(label, role))
        place.volume("region", ((label > 0) if region is None else region).astype(np.uint8))
        place.volume("label", label)

    return spoil


@dataclass(frozen=True)
class TableRow:
    """One line of the catalogue in the documentation."""

    kind: str
    name: str
    commands: str
    outcome: str


@dataclass(frozen=True)
class RequestCase:
    """One request that cannot be met, or an odd one that can.

    Attributes:
        name: for people.
        command: of the program.
        make: prepares files, and returns the arguments behind the command.
        code: exit code.
        says: parts of what is printed.
        leaves: paths below the test's folder that must not be there afterwards.
        result: what happens, for the documentation; default the first of `says`.
    """

    name: str
    command: str
    make: Callable[[Place], Sequence[object]]
    code: int = 2
    says: tuple[str, ...] = ()
    leaves: tuple[str, ...] = field(default=("out",))
    result: str = ""

    @property
    def outcome(self) -> str:
        return self.result or (f"refused: {self.says[0]}" if self.says else "")


def assert_request_case(case: RequestCase, cli: Cli, place: Place) -> None:
    """Give the command, and look at its end."""
    result = cli(case.command, *case.make(place))
    assert_clean(result, case.code)
    for text in case.says:
        assert text in result.out + result.err, (text, result.out + result.err)
    for name in case.leaves:
        assert not (place.out.parent / name).exists()
    assert not list(place.out.parent.rglob(".partial-*"))
