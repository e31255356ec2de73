"""`mrigmm export` of predictions: label maps in the ids, names and formats of others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from mrigmm.data.files import require_new_folder, write_text
from mrigmm.errors import InputError, Problem, near_misses, told
from mrigmm.export import bids
from mrigmm.export.nifti import write_labels
from mrigmm.export.side_files import write_itksnap_labels, write_json, write_slicer_colours
from mrigmm.jobs.common import DISCLAIMER, LABELS_SUFFIX, Outcome, Track, no_progress
from mrigmm.jobs.reading.prediction_folder import Prediction, predicted_studies, read_prediction
from mrigmm.labels import SCHEMES, scheme_ids

FORMATS = ("nifti", "bids", "myops-submission", "dicom-seg", "dicom-sr")
_OF_DICOM = ("dicom-seg", "dicom-sr")

_MYOPS_TEST = re.compile(r"(?:myops_test_)?(?P<number>\d+)", re.IGNORECASE)


def export_predictions(
    predictions: Path | str,
    out: Path | str,
    *,
    format: str,
    scheme: str | None = None,
    dicom: Path | str | None = None,
    record: Path | str | None = None,
    studies: Sequence[str] = (),
    track: Track = no_progress,
) -> Outcome:
    """Write the label maps of a folder once more, as other programs want them (docs/exports.md).

    Examples:
        >>> mrigmm.export_predictions("predictions", "ids", format="nifti", scheme="myops")  # doctest: +SKIP

    Args:
        predictions: folder that `predict` wrote.
        out: new folder.
        format: "nifti": label ids of a `scheme`; "bids": a BIDS derivative data set; "myops-submission":
            names and ids of the MyoPS 2020 challenge; "dicom-seg": a DICOM segmentation object;
            "dicom-sr": that, and a structured report of the measurements which refers to it.
        scheme: for "nifti": whose label ids (`labels.SCHEMES`).
        dicom: for "dicom-seg" and "dicom-sr": folder with the series that the studies were segmented on.
        record: for them: `images.json` of the import, which says which series they are; default the
            one beside the images that `<id>.json` names. Without any, `dicom` holds the series of one study.
        studies: ids of those to export; default all.
        track: progress bar.

    Returns:
        What was done; studies that failed are among its problems and do not stop the others.

    Raises:
        InputError: no such format, scheme, folder or study; an output folder with files; options that do
            not fit the format; a missing package; or no study at all that can be exported.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format '{format}'", remedy=near_misses(format, FORMATS))
    _check_scheme(format, scheme)
    _check_dicom(format, dicom, record)
    folder, out = Path(predictions), Path(out)
    chosen = predicted_studies(folder, studies)
    require_new_folder(out, holds="*")
    export: _Exporter
    if dicom is None:
        export = _Bids(out) if format == "bids" else _Ids(out, scheme) if scheme else _MyopsSubmission(out)
    else:
        from mrigmm.jobs.dicom.export_seg import DicomSegs  # its packages are an extra

        by_hand = None if record is None else Path(record)
        export = DicomSegs(
            out, Path(dicom), by_hand, alone=len(chosen) == 1, report=format == "dicom-sr", track=track
        )
    done: list[str] = []
    problems: list[Problem] = []
    for study in track(chosen, "Exporting"):
        try:
            prediction = read_prediction(folder, study)
            problems += [*export.add(prediction), *prediction.notes()]
            done.append(study)
        except InputError as error:
            problems += error.problems
    if not done:
        raise InputError.from_problems(problems)
    export.finish()
    return Outcome(out, tuple(done), tuple(problems))


class _Exporter(Protocol):
    """Writes predictions in one format."""

    def add(self, prediction: Prediction) -> list[Problem]:
        """Write one study; returns what the user should know."""
        ...

    def finish(self) -> None:
        """Write what holds for all studies."""
        ...


def _check_scheme(format: str, scheme: str | None) -> None:
    if (format == "nifti") != (scheme is not None):
        raise InputError(
            f"the format '{format}' " + ("needs --scheme" if scheme is None else "has ids of its own"),
            got="no --scheme" if scheme is None else f"--scheme {scheme}",
            remedy=f"--format nifti --scheme NAME, with one of {', '.join(SCHEMES)}",
        )
    if scheme is not None and scheme not in SCHEMES:
        raise InputError(f"unknown scheme '{scheme}'", remedy=near_misses(scheme, [*SCHEMES]))


def _check_dicom(format: str, dicom: Path | str | None, record: Path | str | None) -> None:
    if (format in _OF_DICOM) != (dicom is not None):
        raise InputError(
            "DICOM objects need the series that they refer to"
            if dicom is None
            else f"the format '{format}' takes no DICOM series",
            remedy="--format dicom-seg --dicom FOLDER",
        )
    if record is not None and dicom is None:
        raise InputError(f"the format '{format}' takes no record of an import", remedy="leave out --record")


class _Ids:
    """Label maps with the ids of another data set."""

    def __init__(self, out: Path, scheme: str) -> None:
        self.out = out
        self.scheme = scheme
        self.ids: dict[str, int] = {}
        largest = max(i for ids in SCHEMES[scheme].values() for i in ids)
        self.dtype: type[np.unsignedinteger] = np.uint8 if largest < 256 else np.uint16

    def add(self, prediction: Prediction) -> list[Problem]:
        """Write one study; returns what its new ids do not tell apart."""
        file = self.out / self.file_name(prediction.study)
        ids = scheme_ids(self.scheme, list(prediction.classes))
        homeless = [name for name in prediction.classes if name not in ids]
        if homeless:
            raise InputError(
                f"the scheme '{self.scheme}' has no id for '{homeless[0]}'",
                study=prediction.study,
                expected=", ".join(SCHEMES[self.scheme]),
                got=", ".join(prediction.classes),
                remedy="choose another --scheme",
            )
        labels = np.zeros(prediction.labels.data.shape, dtype=self.dtype)
        for name, index in prediction.classes.items():
            labels[prediction.labels.data == index] = ids[name]
        known = SCHEMES[self.scheme]
        self.ids |= {name if name in known else "myocardium": index for name, index in ids.items()}
        if "mvo" in known and prediction.mvo is not None:
            self.ids["mvo"] = known["mvo"][0]
            labels[prediction.mvo] = self.ids["mvo"]
        write_labels(file, labels, prediction.output, self.dtype)
        merged = [name for name in ids if name not in known]
        texts = [
            f"{name} is written as myocardium: '{self.scheme}' does not tell them apart" for name in merged
        ]
        return told(texts, "warning", prediction.study)

    def file_name(self, study: str) -> str:
        """Return the name of a study's label map."""
        return f"{study}{LABELS_SUFFIX}"

    def finish(self) -> None:
        """Write names and colours for ITK-SNAP and 3D Slicer."""
        write_itksnap_labels(self.out / "labels_itksnap.txt", [*self.ids], self.ids)
        write_slicer_colours(self.out / "labels_slicer.ctbl", [*self.ids], self.ids)


class _MyopsSubmission(_Ids):
    """Names and ids of MyoPS 2020, and nothing else in the folder."""

    def __init__(self, out: Path) -> None:
        super().__init__(out, "myops")

    def file_name(self, study: str) -> str:
        """As participants of the challenge named their results."""
        match = _MYOPS_TEST.fullmatch(study)
        if not match:
            raise InputError(
                "the study is no test study of MyoPS 2020",
                study=study,
                expected="an id such as myops_test_201, or 201",
                remedy="name the test studies with --study",
            )
        return f"myops_test_{match['number']}_seg.nii.gz"

    def finish(self) -> None:
        """Nothing more."""


class _Bids:
    """A BIDS derivative data set."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ids: dict[str, int] = {}
        self.study_of: dict[PurePosixPath, str] = {}

    def add(self, prediction: Prediction) -> list[Problem]:
        """Write one study."""
        study = prediction.study
        file = bids.label_file(study)
        if file in self.study_of:
            raise InputError(
                "two studies would have the same name in BIDS",
                study=study,
                got=f"{file}, which is {self.study_of[file]}",
                remedy="export them into two folders with --study",
            )
        ids = {**self.ids, **prediction.classes}
        changed = any(ids[name] != index for name, index in self.ids.items())
        if changed or len(set(ids.values())) < len(ids):
            raise InputError(
                "the studies were predicted with different classes",
                study=study,
                expected=_listed(self.ids),
                got=_listed(prediction.classes),
                remedy="export them into two folders with --study",
            )
        path = self.out / file
        side = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
        write_json(side, bids.label_description(study, prediction.method, manual=prediction.edited))
        write_labels(path, prediction.labels.data, prediction.output)
        self.study_of[file] = study
        self.ids = ids
        return []

    def finish(self) -> None:
        """Write what holds for all studies."""
        write_text(self.out / bids.TABLE_FILE, bids.label_table(self.ids))
        description = bids.dataset_description(version("mrigmm"), DISCLAIMER)
        write_json(self.out / bids.DESCRIPTION_FILE, description)


def _listed(ids: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={index}" for name, index in ids.items())
