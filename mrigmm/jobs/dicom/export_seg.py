"""DICOM segmentation objects of predictions, and reports of what they measure. Needs the extra `dicom`."""

from __future__ import annotations

from pathlib import Path

from mrigmm.data.dicom.record import IMAGES, RECORD_FILE, Origin, image_name, read_record
from mrigmm.data.dicom.source import matching_source, read_folder, recorded_source
from mrigmm.data.files import sha256
from mrigmm.errors import InputError, Problem
from mrigmm.export.dicom_seg import DicomSeg, write_dicom_seg
from mrigmm.export.dicom_sr import measured_values, write_dicom_sr
from mrigmm.jobs.common import DISCLAIMER, Track
from mrigmm.jobs.quantify import measure_now
from mrigmm.jobs.quantifying.inputs import maps_of
from mrigmm.jobs.reading.prediction_folder import Prediction
from mrigmm.labels import SEQUENCES


class DicomSegs:
    """Writes one object per study, which refers to the series that was segmented."""

    def __init__(
        self, out: Path, dicom: Path, record: Path | None, *, alone: bool, report: bool, track: Track
    ) -> None:
        """Read the headers of the DICOM folder once, for all studies.

        Args:
            out: folder to write to.
            dicom: folder with the series.
            record: of the import; None looks for it beside the images of each study.
            alone: whether there is one study only, whose series may be found by its geometry.
            report: write a structured report of the measurements beside each.
            track: progress bar.

        Raises:
            InputError: no folder, or no such record.
        """
        self.out = out
        self.record = None if record is None else _existing_record(record)
        self.folder = read_folder(dicom, track)
        self.alone = alone
        self.report = report

    def add(self, prediction: Prediction) -> list[Problem]:
        """Write one study; returns which series it refers to."""
        study = prediction.study
        side = prediction.side
        # Label maps of other programs name no image.
        sequence = next((name for name, file in side.inputs.items() if file == side.reference_grid), None)
        origin = self._origin(side.reference_grid, side.image_digests.get(sequence or ""), study)
        if origin is not None:
            source = recorded_source(self.folder, prediction.labels, origin, study=study)
        elif self.alone:
            source = matching_source(self.folder, prediction.labels, sequence, study=study)
        else:
            raise InputError(
                "a DICOM series belongs to one study, and no record says which of them belongs to this one",
                study=study,
                file=self.folder.path,
                expected=f"{RECORD_FILE} of mrigmm manifest dicom, beside the images or with --record",
                remedy="name one study with --study, and give the folder of its series",
            )
        seg = write_dicom_seg(
            self.out / f"{study}_seg.dcm",
            source,
            prediction.classes,
            study=study,
            method=prediction.method,
            edited=prediction.edited,
            description=DISCLAIMER,
        )
        if self.report:
            self._write_report(prediction, seg)
        text = source.said + (f"; {source.doubt}" if source.doubt else "")
        return [Problem(text, study, severity="warning" if source.doubt else "note")]

    def _write_report(self, prediction: Prediction, seg: DicomSeg) -> None:
        ml = prediction.labels.grid.voxel_volume_ml
        volume_ml = {
            name: float((prediction.labels.data == index).sum()) * ml
            for name, index in prediction.classes.items()
            if name != "edema" or prediction.edema_sought
        }
        numbers = measure_now(prediction, maps_of(prediction))["volumes"]
        review = prediction.side.review
        editor = review.edited_by if prediction.edited and review is not None else None
        write_dicom_sr(
            self.out / f"{prediction.study}_sr.dcm",
            seg,
            measured_values(volume_ml, numbers),
            method=prediction.method,
            editor=editor,
        )

    def finish(self) -> None:
        """Nothing more."""

    def _origin(self, image: Path | None, digest: str | None, study: str) -> Origin | None:
        """Return where the reference image comes from; None where no import recorded it.

        Args:
            image: its file, where the side file names it.
            digest: of that file when it was segmented.
            study: study id, for messages.
        """
        now = None if image is None else sha256(image)
        if digest is not None and now not in (None, digest):
            raise InputError(
                "the image has changed since it was segmented, and the record tells of the new one",
                study=study,
                file=image,
                remedy="predict again with the images of the last import",
            )
        if self.record is None:
            if image is None or image.parent.name != IMAGES:
                return None
            return read_record(image.parents[1] / RECORD_FILE).get(image.name)
        names = [] if image is None else [image.name]
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
