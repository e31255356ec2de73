"""The folder that `mrigmm train-anatomy` writes and `--anatomy` reads: a run folder without a prior."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from mrigmm.config_anatomy import AnatomyConfig, load_anatomy_config
from mrigmm.data.files import write_text
from mrigmm.data.run_folder import RunFolder
from mrigmm.errors import InputError


class AnatomyRecord(BaseModel):
    """Record of an anatomy run beside configuration and weights.

    Attributes:
        sequences: C sequence names, the network's input channels.
        labelled_studies: ids of the studies whose anatomy it learnt from.
        unlabelled_studies: ids of the studies of which it saw the images only.
        lowest_quality: quality that 95 of 100 training slices exceed; below it a slice is flagged.
        versions: package versions that trained it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sequences: tuple[str, ...]
    labelled_studies: tuple[str, ...]
    unlabelled_studies: tuple[str, ...]
    lowest_quality: float
    versions: dict[str, str]


@dataclass(frozen=True)
class AnatomyRun:
    """An anatomy run; paths and weights are those of a `RunFolder`."""

    folder: RunFolder

    def read(self) -> tuple[AnatomyConfig, AnatomyRecord]:
        """Configuration and record of a finished run.

        Raises:
            InputError: no run folder, not finished, damaged, or a run of `mrigmm train`.
        """
        if not self.folder.path.is_dir():
            raise InputError(
                "the run folder does not exist",
                file=self.folder.path,
                remedy="train one: mrigmm train-anatomy",
            )
        config = load_anatomy_config(self.folder.config)
        try:
            record = AnatomyRecord.model_validate(json.loads(self.folder.record.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(
                "the run is not finished",
                file=self.folder.record,
                remedy="continue it: mrigmm train-anatomy ... --resume",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("the run's record is damaged", file=self.folder.record, got=str(error)) from None
        return config, record

    def write_record(self, record: AnatomyRecord) -> None:
        """Write the record; its presence says that the run is finished."""
        write_text(self.folder.record, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")
