"""The files of a study's results: their names, and what may be replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mrigmm.data.files import remove, require_new_folder, require_not_input
from mrigmm.data.manifest import Study
from mrigmm.errors import InputError
from mrigmm.jobs.common import (
    COMPARISON_FILE,
    CORRECTED_FILE,
    DICTIONARY_FILE,
    INTERVALS_FILE,
    LABELS_SUFFIX,
    LONGITUDINAL_FILE,
    METRICS_FILE,
    MOTION_SUFFIX,
    MVO_SUFFIX,
    ORIGINAL_SUFFIX,
    PROBABILITIES_SUFFIX,
    QUANTITIES_FILE,
    REDCAP_FILES,
    REGION_SUFFIX,
    REPORT_FILE,
    RV_SUFFIX,
    SEGMENTS_FILE,
)
from mrigmm.jobs.reading.failures import failure_file, is_side_file
from mrigmm.methods.base import EXTRA_MAPS, UNCERTAINTY_MAPS

# Tables, comparisons and pages that are made from results, in the same folder.
_DERIVED = (
    METRICS_FILE,
    QUANTITIES_FILE,
    INTERVALS_FILE,
    DICTIONARY_FILE,
    LONGITUDINAL_FILE,
    *REDCAP_FILES,
    SEGMENTS_FILE,
    REPORT_FILE,
    str(Path(REPORT_FILE).with_suffix(".pdf")),
    CORRECTED_FILE,
    *(str(Path(name).with_suffix(".csv")) for name in (METRICS_FILE, QUANTITIES_FILE)),
    *(str(Path(COMPARISON_FILE).with_suffix(suffix)) for suffix in (".json", ".md", ".png")),
)


def result_files(study_id: str, out: Path) -> dict[str, Path]:
    """The files of one study."""
    return {
        "labels": out / f"{study_id}{LABELS_SUFFIX}",
        "original": out / f"{study_id}{ORIGINAL_SUFFIX}",
        "probabilities": out / f"{study_id}{PROBABILITIES_SUFFIX}",
        **{name: out / f"{study_id}_{name}.nii.gz" for name in (*EXTRA_MAPS, *UNCERTAINTY_MAPS)},
        "mvo": out / f"{study_id}{MVO_SUFFIX}",
        "rv": out / f"{study_id}{RV_SUFFIX}",
        "motion": out / f"{study_id}{MOTION_SUFFIX}",
        "region": out / f"{study_id}{REGION_SUFFIX}",
        "json": out / f"{study_id}.json",  # last, in writing too
    }


def require_free(
    out: Path, studies: Iterable[Study], manifest: Path | None, *, overwrite: bool, beside: bool = False
) -> None:
    """Refuse to replace results without being asked to, and anything that is no result at all.

    Args:
        out: folder for the results.
        studies: of the job.
        manifest: that names them.
        overwrite: the user allowed to replace results.
        beside: results of other studies may be in the folder.

    Raises:
        InputError: something is there.
    """
    require_new_folder(
        out,
        holds=f"*{LABELS_SUFFIX}",
        overwrite=overwrite or beside,
        instead="allow to replace them with --overwrite",
    )
    studies = tuple(studies)
    ids = {study.id.casefold() for study in studies}
    for study in studies:
        record = failure_file(out, study.id)
        if record.stem.casefold() in ids or is_side_file(record):
            raise InputError(
                "the record of a failure would replace the side file of a study of this name",
                study=record.stem,
                file=record,
                remedy="rename the study",
            )
        maps = (study.region, study.label, study.scribbles)
        inputs = [file for file in (*study.images.values(), *maps) if isinstance(file, Path)]
        # Converters leave acquisition parameters in a JSON file of the image's name beside it.
        sidecars = [
            file.with_name(file.name.removesuffix(".gz").removesuffix(".nii") + ".json") for file in inputs
        ]
        results = result_files(study.id, out).values()
        for file in results:
            if file.name.casefold() in _DERIVED:
                raise InputError(
                    "a table or page of the results would replace the side file of a study of this name",
                    study=study.id,
                    file=file,
                    remedy="rename the study",
                )
        require_not_input(
            *results,
            inputs=[*inputs, *(s for s in sidecars if s.exists()), *([] if manifest is None else [manifest])],
            study=study.id,
        )
        for file in results:
            if file.exists() and not overwrite:
                raise InputError(
                    "a file of a result's name is already there",
                    study=study.id,
                    file=file,
                    expected="a new or empty folder",
                    remedy="choose another -o, or allow to replace it with --overwrite",
                )


def remove_results(files: Mapping[str, Path]) -> None:
    """Delete the files of a study, first the side file, whose presence says that it is finished."""
    for file in reversed([*files.values()]):
        remove(file)


def remove_derived(out: Path) -> None:
    """Delete tables, comparisons and pages of results that are about to be replaced."""
    for name in _DERIVED:
        remove(out / name)
