"""What many tests share: small studies on disk, and the command line in process.

The hand-made studies are oblique, anisotropic (1.2 x 1.2 x 10 mm) and not in RAS order: a disc of
blood inside a ring of wall, of which a quarter is infarcted.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# As many workers of pytest as cores: before torch is loaded, each is told to take one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from mrigmm.cli import main
from mrigmm.cli.console import err_console, out_console
from mrigmm.phantom import simulate_cohort
from tests.browsing import ARGUMENTS, CHROMIUM, TIMEOUT_MS

# The same examples every time (scripts/fuzz.py looks for new ones); how long one takes depends on what else
# the machine does.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

SEQUENCES = ("LGE", "T2", "bSSFP")
SHAPE = (16, 14, 3)
SPACING_MM = (1.2, 1.2, 10.0)
LABELS = {"background": 0, "blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
# Intensities of background, blood, myocardium, edema, scar (scanner units).
CONTRAST = {"LGE": (40, 160, 30, 45, 240), "T2": (30, 40, 80, 190, 160), "bSSFP": (60, 250, 90, 110, 120)}


def oblique_affine(
    spacing_mm: Sequence[float] = SPACING_MM,
    *,
    order: Sequence[int] = (0, 1, 2),
    flips: Sequence[int] = (-1, -1, 1),
    origin_mm: Sequence[float] = (31.0, -17.5, 42.25),
) -> np.ndarray:
    """Affine rotated by 20 degrees about x and 15 about z; `order` and `flips` permute the array axes."""
    a, b = np.deg2rad([20.0, 15.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = (about_z @ about_x)[:, list(order)] * np.asarray(flips) * np.asarray(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


# Pixels of 4.5 mm give the hand-made ventricle the size of a patient's (radius 27 mm).
PATIENT = oblique_affine((4.5, 4.5, 10.0))


def ventricle(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Class ids (X, Y, Z): disc of blood, ring of wall with scar in one quarter and edema beside it."""
    x, y = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape[:2]), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    wall = (radius > 3) & (radius <= 6)
    plane = np.zeros(shape[:2], dtype=np.uint8)
    plane[radius <= 3] = 1
    plane[wall] = 2
    plane[wall & (angle > 0.8) & (angle < 2.0)] = 3
    plane[wall & (angle >= 2.0)] = 4
    return np.repeat(plane[..., None], shape[2], axis=2)


def intensities(label: np.ndarray, sequence: str, seed: int = 0) -> np.ndarray:
    """A sequence of that ventricle with noise of SD 6, always above 0."""
    rng = np.random.default_rng([seed, SEQUENCES.index(sequence)])
    clean = np.array(CONTRAST[sequence], dtype=float)[label]
    return np.clip(clean + rng.normal(0, 6, label.shape), 1, None).astype(np.float32)


def save_nifti(
    path: Path,
    data: np.ndarray,
    affine: np.ndarray,
    *,
    qform_code: int = 1,
    sform_code: int = 1,
    nifti2: bool = False,
) -> Path:
    """Write a NIfTI file with the given codes; code 0 leaves that form out."""
    image = (nib.Nifti2Image if nifti2 else nib.Nifti1Image)(data, affine)
    image.set_qform(affine, code=qform_code)
    image.set_sform(affine, code=sform_code)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@dataclass(frozen=True)
class Workshop:
    """Makes tiny studies in a folder."""

    folder: Path

    def volume(self, name: str, data: np.ndarray, affine: np.ndarray | None = None, **options: Any) -> Path:
        """Write one file and return its path."""
        where = oblique_affine() if affine is None else affine
        return save_nifti(self.folder / name, data, where, **options)

    def study(
        self,
        study_id: str = "s1",
        *,
        sequences: Sequence[str] = SEQUENCES,
        shape: Sequence[int] = SHAPE,
        affine: np.ndarray | None = None,
        region: str = "lv",
        seed: int = 0,
        **options: Any,
    ) -> dict[str, Any]:
        """Write a study and return its entry in the manifest. `region`: "lv" or "cavity-wall"."""
        label = ventricle(shape)
        lv = label > 0
        codes = np.where(lv, 1, 0) if region == "lv" else np.where(label == 1, 1, np.where(lv, 2, 0))
        images = {}
        for name in sequences:
            images[name] = f"{study_id}_{name}.nii.gz"
            self.volume(images[name], intensities(label, name, seed), affine, **options)
        self.volume(f"{study_id}_region.nii.gz", codes.astype(np.uint8), affine, **options)
        self.volume(f"{study_id}_label.nii.gz", label, affine, **options)
        return {
            "id": study_id,
            "image": images,
            "region": f"{study_id}_region.nii.gz",
            "label": f"{study_id}_label.nii.gz",
        }

    def manifest(
        self, test: Sequence[Mapping[str, Any]] | None = None, *, name: str = "manifest.json", **changes: Any
    ) -> Path:
        """Write a manifest; default one study under "test". A change to None leaves the key out."""
        content: dict[str, Any] = {
            "modality": {str(i): sequence for i, sequence in enumerate(SEQUENCES)},
            "labels": LABELS,
            "test": [self.study()] if test is None else list(test),
            **changes,
        }
        path = self.folder / name
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
        return path

    def single(self, entry: Mapping[str, Any]) -> list[str]:
        """Arguments `--image ... --region ...` for one study."""
        images = [f"{name}={self.folder / file}" for name, file in entry["image"].items()]
        return [text for image in images for text in ("--image", image)] + [
            "--region",
            str(self.folder / entry["region"]),
        ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let random numbers without a seed of their own be the same in any order and selection of tests."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - that of libraries
    torch.manual_seed(0)


def hear_interrupts() -> None:
    """Ctrl-C in a child: what is started in the background ignores it, and so does what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class CliResult:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., CliResult]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Makes tiny studies in a folder of their own; results belong elsewhere in `tmp_path`."""
    (tmp_path / "data").mkdir()
    return Workshop(tmp_path / "data")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line in process: `cli("predict", manifest, "-o", out)`."""
    # Progress is told in lines where a machine is slow.
    monkeypatch.setattr("mrigmm.cli.console._LINE_S", math.inf)

    def run(*arguments: object) -> CliResult:
        monkeypatch.setattr(sys, "argv", ["mrigmm", *map(str, arguments)])
        for console in (out_console, err_console):  # made before, perhaps for the terminal of a worker
            monkeypatch.setattr(console, "_width", 200)
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return CliResult(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright; skipped where one of them is not installed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of a simulated cohort of 4 small studies (read only): 3 for training, 1 for test."""
    folder = tmp_path_factory.mktemp("cohort") / "small"
    return simulate_cohort(folder, n_studies=4, seed=3, preset="small")


@pytest.fixture
def torchrun() -> Cli:
    """Runs a command as several processes: `torchrun("predict", manifest, "-o", out, processes=2)`."""

    def run(*arguments: object, processes: int = 2) -> CliResult:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        result = subprocess.run(
            [sys.executable, *launcher, "-m", "--", "mrigmm", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return CliResult(result.returncode, result.stdout, result.stderr)

    return run
