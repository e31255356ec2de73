"""DICOM segmentation objects of predictions. Needs the extra `dicom`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrigmm.data.dicom.recognise import SEQUENCES
from mrigmm.data.dicom.record import IMAGES, RECORD_FILE, Origin, image_name, read_record
from mrigmm.data.dicom.source import matching_source, read_folder, recorded_source
from mrigmm.errors import InputError, Problem
from mrigmm.export.dicom_seg import write_dicom_seg
from mrigmm.jobs.common import DISCLAIMER, Track
from mrigmm.jobs.predicting.finished import sha256
from mrigmm.jobs.reading.prediction_folder import Prediction, read_side_file


@dataclass(frozen=True)
class _ReferenceImage:
    """The image whose grid the label map has, and its sequence, where the side file says so."""

    path: Path | None
    sequence: str | None
    digest: str | None = None  # of the file that was segmented

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> _ReferenceImage:
        """From `<id>.json`; label maps of other programs have less in it."""
        file = content.get("reference_grid")
        inputs = content.get("inputs", {})
        sequence = next((str(name) for name, path in inputs.items() if path == file), None)
        digests = content.get("made_with", {}).get("images", {})
        return cls(None if file is None else Path(file), sequence, digests.get(sequence))


class DicomSegs:
    """Writes one object per study, which refers to the series that was segmented."""

    def __init__(
        self, out: Path, predictions: Path, dicom: Path, record: Path | None, *, alone: bool, track: Track
    ) -> None:
        """Read the headers of the DICOM folder once, for all studies.

        Args:
            out: folder to write to.
            predictions: folder of the side files.
            dicom: folder with the series.
            record: of the import; None looks for it beside the images of each study.
            alone: whether there is one study only, whose series may be found by its geometry.
            track: progress bar.

        Raises:
            InputError: no folder, or no such record.
        """
        self.out = out
        self.predictions = predictions
        self.record = None if record is None else _existing_record(record)
        self.folder = read_folder(dicom, track)
        self.alone = alone

    def add(self, prediction: Prediction) -> list[Problem]:
        """Write one study; returns which series it refers to."""
        study = prediction.study
        image = read_side_file(self.predictions, study, _ReferenceImage.of)
        origin = self._origin(image, study)
        if origin is not None:
            source = recorded_source(self.folder, prediction.labels, origin, study=study)
        elif self.alone:
            source = matching_source(self.folder, prediction.labels, image.sequence, study=study)
        else:
            raise InputError(
                "a DICOM series belongs to one study, and no record says which of them belongs to this one",
                study=study,
                file=self.folder.path,
                expected=f"{RECORD_FILE} of mrigmm manifest dicom, beside the images or with --record",
                remedy="name one study with --study, and give the folder of its series",
            )
        write_dicom_seg(
            self.out / f"{study}_seg.dcm",
            source,
            prediction.classes,
            study=study,
            method=prediction.method,
            description=DISCLAIMER,
        )
        text = source.said + (f"; {source.doubt}" if source.doubt else "")
        return [Problem(text, study, severity="warning" if source.doubt else "note")]

    def finish(self) -> None:
        """Nothing more."""

    def _origin(self, image: _ReferenceImage, study: str) -> Origin | None:
        """Where the reference image comes from; None where no import recorded it."""
        now = None if image.path is None else sha256(image.path)
        if image.digest is not None and now not in (None, image.digest):
            raise InputError(
                "the image has changed since it was segmented, and the record tells of the new one",
                study=study,
                file=image.path,
                remedy="predict again with the images of the last import",
            )
        if self.record is None:
            if image.path is None or image.path.parent.name != IMAGES:
                return None
            return read_record(image.path.parents[1] / RECORD_FILE).get(image.path.name)
        names = [] if image.path is None else [image.path.name]
        names += [image_name(study, sequence) for sequence in SEQUENCES]
        origin = next((self.record[name] for name in names if name in self.record), None)
        if origin is None:
            raise InputError(
                "the record of the import does not name the images of this study",
                study=study,
                expected=names[0],
                remedy="give the record of the import that the study comes from",
            )
        return origin


def _existing_record(path: Path) -> dict[str, Origin]:
    if not path.is_file():
        raise InputError(
            "there is no such record of an import",
            file=path,
            expected=f"{RECORD_FILE}, which mrigmm manifest dicom writes beside the manifest",
            remedy="check the path",
        )
    return read_record(path)
