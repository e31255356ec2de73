"""`mrigmm manifest dicom`: a folder of DICOM series to NIfTI files and a manifest."""

from __future__ import annotations

from pathlib import Path

from mrigmm.jobs.common import Outcome, Track, no_progress


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
