"""Images with known segments: simulated, or a folder in the style of the Berkeley data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter

from mrigmm.data.photographs import Photograph, read_photograph
from mrigmm.errors import InputError

SEEDS = {"tuning": 1000, "report": 2026}
# What lies over the colours of a simulated image's segments.
KINDS = ("noise", "texture", "shading")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Case:
    """An image and its reference segmentations (H, W), integers, of one or several people."""

    id: str
    photograph: Photograph
    references: tuple[NDArray[np.integer], ...]

    @property
    def n_segments(self) -> int:
        """Median number of segments of the references."""
        return int(np.median([len(np.unique(reference)) for reference in self.references]))


def simulated_cases(seed: int, n: int, size: int) -> list[Case]:
    """Images of 3 to 6 segments, each of several Voronoi cells; `KINDS` in turn."""
    return [simulated_case(seed, index, size) for index in range(n)]


def simulated_case(seed: int, index: int, size: int) -> Case:
    """One simulated image: colours at least 60 apart, and noise, texture or shading over them."""
    rng = np.random.default_rng([seed, index])
    kind = KINDS[index % len(KINDS)]
    k = int(rng.integers(3, 7))
    points = rng.uniform(0, size, (4 * k, 2))
    grid = np.stack(np.mgrid[:size, :size], axis=-1)  # (H, W, 2)
    cell = np.linalg.norm(grid[:, :, None] - points, axis=-1).argmin(axis=-1)
    segments = cell % k
    values = _colours(rng, k)[segments]
    if kind == "noise":
        values = values + rng.normal(0, 35, values.shape)
    elif kind == "texture":
        values = values + _texture(rng, segments, k)[..., None]
    else:
        slope = (grid / size - 0.5) @ _direction(rng)  # -0.7 to 0.7
        values = values * (1 + 0.5 * slope[..., None]) + rng.normal(0, 12, values.shape)
    pixels = np.clip(values, 0, 255).round().astype(np.float32)
    name = f"{kind}-{index}"
    photograph = Photograph(Path(name), pixels, ("R", "G", "B"), np.ones((size, size), dtype=bool))
    return Case(name, photograph, (segments,))


def folder_cases(folder: Path, n: int | None) -> list[Case]:
    """`images/` and `groundTruth/`: `ID.mat` of the Berkeley data set, `ID.png`, `ID_*.png`; any sub-folder.

    Raises:
        InputError: a folder or a ground truth is missing, or of another size.
    """
    for name in ("images", "groundTruth"):
        if not (folder / name).is_dir():
            raise InputError("the folder has no images with ground truth", file=folder / name)
    files = sorted(f for f in (folder / "images").rglob("*") if f.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise InputError("there are no images", file=folder / "images")
    return [_folder_case(file, folder / "groundTruth") for file in files[:n]]


def _folder_case(file: Path, truths: Path) -> Case:
    photograph = read_photograph(file)
    tables = sorted(truths.rglob(f"{file.stem}.mat"))
    drawn = sorted({*truths.rglob(f"{file.stem}.png"), *truths.rglob(f"{file.stem}_*.png")})
    references = [m for table in tables for m in _berkeley(table)] + [_label_image(f) for f in drawn]
    if not references:
        raise InputError(
            "an image has no ground truth",
            file=file,
            expected=f"{file.stem}.mat, {file.stem}.png or {file.stem}_*.png in {truths}",
        )
    shape = photograph.opaque.shape
    for reference in references:
        if reference.shape != shape:
            raise InputError(
                "a ground truth has another size than its image",
                file=file,
                expected=f"{shape}",
                got=f"{reference.shape}",
            )
    return Case(file.stem, photograph, tuple(references))


def _berkeley(file: Path) -> list[NDArray[np.integer]]:
    """The segmentations in a `groundTruth` cell array of structs."""
    try:
        cells = loadmat(file)["groundTruth"]
        return [np.asarray(cell["Segmentation"][0, 0]).astype(int) for cell in cells.ravel()]
    except Exception as error:  # the reader of damaged files raises anything
        raise InputError(
            "the ground truth cannot be read",
            file=file,
            expected="a MATLAB file (not 7.3) with groundTruth{i}.Segmentation",
            got=f"{type(error).__name__}: {error}",
        ) from None


def _label_image(file: Path) -> NDArray[np.integer]:
    """Each colour of a label image as a number."""
    values = read_photograph(file).values
    _, labels = np.unique(values.reshape(-1, values.shape[-1]), axis=0, return_inverse=True)
    return np.asarray(labels.reshape(values.shape[:2]))


def _colours(rng: np.random.Generator, k: int) -> NDArray[np.float64]:
    """K colours (k, 3) of which no two are nearer than 60."""
    while True:
        colours = rng.uniform(40, 215, (k, 3))
        distances = np.linalg.norm(colours[:, None] - colours, axis=-1)
        if distances[~np.eye(k, dtype=bool)].min() > 60:
            return np.asarray(colours)


def _texture(rng: np.random.Generator, segments: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """Correlated noise of SD 30, finer in one segment than in the other."""
    layers = [gaussian_filter(rng.normal(size=segments.shape), sigma) for sigma in np.linspace(0.5, 3, k)]
    scaled: Sequence[NDArray[np.float64]] = [30 * layer / layer.std() for layer in layers]
    return np.asarray(np.choose(segments, scaled))


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)])
