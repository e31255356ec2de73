"""The folder that `mrigmm pretrain` writes, and that ships with the package as `mrigmm/pretrained/weights`.

A run of `mrigmm train` that went on from such networks is one, too.

config.yaml               resolved configuration
locator.safetensors       finds the ventricle in whole slices (float16)
segmenter_K.safetensors   segmenter of the seed K (float16)
finder.safetensors        finds cavity and wall (float16); absent where the segmenters do
networks.json             sizes and hashes; its presence says that the training is finished
calibration.json          thresholds and curves of the study's verdicts (absent in a run of one's own
                          until `scripts/calibrate_pretrained.py` wrote it)
learning.json             what the networks have learnt since (`pretrained.learning`; only in runs of `train`)
model_card.md             data, ranges, seeds, cohorts scored, limits, licence
logs/                     one row per hundred steps
checkpoints/              states to resume from, and the weights that the finder is the mean of
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mrigmm.config_pretrain import PretrainConfig, load_pretrain_config
from mrigmm.data.files import write_text
from mrigmm.errors import InputError


class NetworkFile(BaseModel):
    """One network.

    Attributes:
        file: name of the weights' file.
        parameters: number of parameters.
        bytes: size of the file.
        sha256: of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    parameters: int
    bytes: int
    sha256: str


class NetworksRecord(BaseModel):
    """The networks of a pretraining.

    Attributes:
        locator: finds the ventricle.
        segmenters: one per seed.
        finder: finds cavity and wall; None: the segmenters do.
        backgrounds: what real slices were used, and how many.
        versions: package versions that trained them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    locator: NetworkFile
    segmenters: tuple[NetworkFile, ...]
    finder: NetworkFile | None = None
    backgrounds: str
    versions: dict[str, str]

    @property
    def files(self) -> tuple[NetworkFile, ...]:
        """All networks."""
        return (self.locator, *((self.finder,) if self.finder else ()), *self.segmenters)


@dataclass(frozen=True)
class PretrainedFolder:
    """Paths of a pretraining."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved configuration."""
        return self.path / "config.yaml"

    @property
    def record(self) -> Path:
        """Sizes and hashes."""
        return self.path / "networks.json"

    @property
    def calibration(self) -> Path:
        """Thresholds and curves."""
        return self.path / "calibration.json"

    @property
    def card(self) -> Path:
        """Model card."""
        return self.path / "model_card.md"

    @property
    def learning(self) -> Path:
        """Cohorts that the networks have learnt from since."""
        return self.path / "learning.json"

    @property
    def locator(self) -> Path:
        """Weights of the locator."""
        return self.path / "locator.safetensors"

    @property
    def finder(self) -> Path:
        """Weights of the finder."""
        return self.path / "finder.safetensors"

    @property
    def checkpoints(self) -> Path:
        """States to resume from, weights of first cycles, and those that the finder is the mean of."""
        return self.path / "checkpoints"

    @property
    def begun(self) -> bool:
        """Whether this is such a folder, finished or not."""
        try:
            return self.config.read_text(encoding="utf-8").startswith("kind: pretrained\n")
        except (OSError, UnicodeDecodeError):
            return False

    def segmenter(self, seed: int) -> Path:
        """Weights of the segmenter of a seed."""
        return self.path / f"segmenter_{seed}.safetensors"

    def first_cycle(self, seed: int) -> Path:
        """Weights of the segmenter of a seed after the first of two cycles."""
        return self.checkpoints / f"segmenter_{seed}_first.safetensors"

    def read(self) -> tuple[PretrainConfig, NetworksRecord]:
        """Configuration and record of a finished pretraining.

        Raises:
            InputError: the folder is missing, unfinished or damaged.
        """
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            record = NetworksRecord.model_validate(content)
        except FileNotFoundError:
            raise InputError(
                "there are no finished networks",
                file=self.record,
                expected="a folder that mrigmm pretrain, or train without --preset, wrote",
                remedy="go on with an interrupted training: the same command, of train with --resume",
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                "the record of the networks is damaged", file=self.record, got=str(error)
            ) from None
        return load_pretrain_config(self.config), record

    def write_record(self, record: NetworksRecord) -> None:
        """Write the record."""
        write_text(self.record, json.dumps(record.model_dump(mode="json"), indent=1) + "\n")

    def read_calibration(self) -> dict[str, Any] | None:
        """The calibration, or None where there is none.

        Raises:
            InputError: it is damaged.
        """
        if not self.calibration.exists():
            return None
        try:
            content: dict[str, Any] = json.loads(self.calibration.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("the calibration is damaged", file=self.calibration, got=str(error)) from None
        return content


def describe_file(file: Path, parameters: int) -> NetworkFile:
    """Size and hash of a weights' file."""
    content = file.read_bytes()
    return NetworkFile(
        file=file.name, parameters=parameters, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )


def shipped_folder() -> PretrainedFolder:
    """The networks that ship with the package."""
    with as_file(files("mrigmm.pretrained") / "weights") as path:
        return PretrainedFolder(path)
