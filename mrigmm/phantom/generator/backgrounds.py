"""Real slices around simulated hearts, and as slices with partial labels, in any contrast."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import center_of_mass, gaussian_filter, map_coordinates

from mrigmm.errors import InputError

FloatArray = NDArray[np.floating[Any]]

PACK = "sunnybrook_cc0.zip"
PIXEL_MM = 1.37  # of the source (1.25 to 1.4), which the PNG files do not keep
_WALL_MM = 9.0  # about the thickness of the real walls, which nobody drew
_CANDIDATES = 4
_KNOTS = 6  # intensity clusters that get new means
_SUFFIXES = (".png", ".webp")


@dataclass(frozen=True)
class Backgrounds:
    """Real short-axis slices with the cavity of the left ventricle.

    Attributes:
        images: (N, X, Y) uint8.
        cavity: (N, X, Y) bool.
        centres: (N, 2) of the cavity in pixels.
        names: of the N slices; what stands before "-IM-" names the patient.
    """

    images: NDArray[np.uint8]
    cavity: NDArray[np.bool_]
    centres: FloatArray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a slice."""
        return int(rng.integers(len(self)))

    def draw_fitting(self, radius_mm: float, rng: np.random.Generator) -> tuple[int, float]:
        """Index of a slice, and the scale at which its ventricle fits into one of this radius."""
        picks = rng.integers(len(self), size=_CANDIDATES)
        radii = np.sqrt(self.cavity[picks].sum(axis=(1, 2)) / np.pi) * PIXEL_MM + _WALL_MM
        scales = np.clip(radius_mm * rng.uniform(0.8, 1.0) / radii, 0.65, 1.5)
        best = int(np.abs(np.log(scales)).argmin())
        return int(picks[best]), float(scales[best])


def read_backgrounds(folder: Path | None = None) -> Backgrounds:
    """Read slices from a folder with `images/` and `endocardium/`, or those that ship with the package.

    Raises:
        InputError: there is none, a mask is missing or empty, or the sizes differ.
    """
    if folder is not None:
        source = {p.stem: (p, folder / "endocardium" / p.name) for p in _image_files(folder / "images")}
        pairs = {name: (_grey(image), _grey(mask)) for name, (image, mask) in source.items()}
    else:
        with as_file(files("mrigmm") / "resources" / PACK) as path, zipfile.ZipFile(path) as pack:
            names = [Path(n).stem for n in pack.namelist() if n.startswith("images/")]
            pairs = {
                name: (
                    _grey(io.BytesIO(pack.read(f"images/{name}.webp"))),
                    _grey(io.BytesIO(pack.read(f"endocardium/{name}.png"))),
                )
                for name in names
            }
    if not pairs:
        raise InputError(
            "there are no backgrounds",
            file=folder,
            expected="images/NAME.png and endocardium/NAME.png (above 0: inside the cavity)",
            remedy="leave out --backgrounds to use the slices that ship with the package",
        )
    shapes = {array.shape for pair in pairs.values() for array in pair}
    if len(shapes) > 1:
        raise InputError(
            "the backgrounds differ in size", file=folder, got=", ".join(map(str, sorted(shapes)))
        )
    cavity = np.stack([mask > 0 for _, mask in pairs.values()])
    empty = [name for name, mask in zip(pairs, cavity, strict=True) if not mask.any()]
    if empty:
        raise InputError("a mask of the cavity is empty", file=folder, got=", ".join(empty[:5]))
    centres = np.array([center_of_mass(mask) for mask in cavity], dtype=np.float32)
    return Backgrounds(np.stack([image for image, _ in pairs.values()]), cavity, centres, tuple(pairs))


def _image_files(folder: Path) -> Iterator[Path]:
    yield from sorted(p for p in folder.glob("*") if p.suffix in _SUFFIXES)


def _grey(source: Path | io.BytesIO) -> NDArray[np.uint8]:
    try:
        with Image.open(source) as image:
            return np.asarray(image.convert("L"))
    except OSError as error:
        raise InputError("a background cannot be read", file=getattr(source, "name", None)) from error


@dataclass(frozen=True)
class Placing:
    """Where the pixels of a target grid lie in a real slice: (2, X, Y) in its pixels."""

    where: FloatArray

    @classmethod
    def draw(
        cls,
        centre: FloatArray,
        *,
        size: int,
        spacing_mm: float,
        offset_mm: FloatArray,
        rng: np.random.Generator,
        scale_log_sd: float = 0.12,
        scale: float | None = None,
    ) -> Placing:
        """Place the slice's cavity `offset_mm` from the middle of the grid, turned, mirrored and scaled."""
        angle = rng.uniform(0, 2 * np.pi)
        if scale is None:
            scale = np.exp(rng.normal(0, scale_log_sd))
        steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * spacing_mm
        u, v = steps[:, None] - offset_mm[0], steps[None, :] - offset_mm[1]
        if rng.random() < 0.5:
            u = -u
        pixels = 1 / (PIXEL_MM * scale)
        x = (u * np.cos(angle) - v * np.sin(angle)) * pixels + centre[0]
        y = (u * np.sin(angle) + v * np.cos(angle)) * pixels + centre[1]
        return cls(np.stack([x, y]).astype(np.float32))

    def image(self, values: NDArray[np.uint8]) -> FloatArray:
        """The slice's intensities (X, Y) there; beyond its edge those at the edge."""
        found: FloatArray = map_coordinates(values.astype(np.float32), self.where, order=1, mode="nearest")
        return found

    def mask(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The slice's mask (X, Y) there."""
        return map_coordinates(values.astype(np.float32), self.where, order=1) > 0.5


def random_contrast(values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Give a slice another contrast: intensity clusters get new random means, the texture is kept.

    Returns:
        (X, Y) of mean 0 and SD 1.
    """
    values = values + np.float32(0.02 * values.std() + 1e-3) * rng.standard_normal(
        values.shape, dtype=np.float32
    )
    smooth = gaussian_filter(values, 0.7)
    knots = np.quantile(smooth, np.linspace(0, 1, _KNOTS)) + 1e-4 * np.arange(_KNOTS)
    levels = rng.normal(0, 1, _KNOTS)
    if rng.random() < 0.35:  # a monotone contrast, as most real ones are
        levels = np.sort(levels)
    texture = (values - smooth) / (values.std() + 1e-6)
    out = np.interp(smooth, knots, levels).astype(np.float32) + rng.uniform(0.5, 1.5) * texture
    standardised: FloatArray = ((out - out.mean()) / (out.std() + 1e-6)).astype(np.float32)
    return standardised
