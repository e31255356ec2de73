"""Helpers for all pictures of a report: small files, and texts that mean nothing else."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, WebPImagePlugin  # noqa: F401 - else Pillow imports all formats to find this one

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SLICES = 6  # of a study that are shown
_PHOTOGRAPH_QUALITY = 78  # of WebP, 0 to 100: contours stay sharp, noise is not stored
_DIAGRAM_COLOURS = 128
_SHOWN_DPI = 96
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # between ticks, times a power of ten


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        title: short heading.
        alt: what it shows, for those who cannot see it.
        data: a file of this kind.
        width: in pixels, as shown.
        height: in pixels, as shown.
        kind: "webp" or "svg+xml".
    """

    title: str
    alt: str
    data: bytes
    width: int
    height: int
    kind: str = "webp"

    @property
    def uri(self) -> str:
        """The file as a data address."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


def photograph(rgb: NDArray[np.uint8], *, title: str, alt: str) -> Picture:
    """Return a picture of MR slices (height, width, 3), slightly lossy."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=_PHOTOGRAPH_QUALITY, method=4)
    height, width = rgb.shape[:2]
    return Picture(title, alt, buffer.getvalue(), width, height)


def saved_diagram(png: bytes, *, title: str, alt: str, sharper: float = 1) -> Picture:
    """Return a diagram that is a PNG file already, with `sharper` times the pixels it is shown in."""
    image, buffer = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    # Median cut, the usual way, would move the colours of small areas, and so of the classes.
    reduced = image.quantize(
        _DIAGRAM_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).convert("RGB")
    reduced.save(buffer, "WEBP", lossless=True, method=4)
    width, height = (round(n / sharper) for n in image.size)
    return Picture(title, alt, buffer.getvalue(), width, height)


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers at equal distances, at most `most` steps of them, that enclose low to high."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (power * s for s in (*_STEPS, 20.0)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [round(n * step, 12) for n in range(first, last + 1)]


def stacked(pictures: Sequence[Picture], *, title: str, legend: Mapping[str, tuple[int, int, int]]) -> Figure:
    """Return a figure of pictures below each other.

    Args:
        pictures: of one width.
        title: above all of them.
        legend: name -> colour (RGB, 0 to 255), below them.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    size = [max(p.width for p in pictures) / _SHOWN_DPI, sum(p.height for p in pictures) / _SHOWN_DPI]
    figure = Figure(figsize=(size[0] + 0.3, size[1] + 0.2 * len(pictures) + 0.8), layout="constrained")
    for axis, picture in zip(figure.subplots(len(pictures), squeeze=False)[:, 0], pictures, strict=True):
        axis.imshow(np.asarray(Image.open(io.BytesIO(picture.data))))
        axis.set_title(plain(picture.title), fontsize=8)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=8, wrap=True)
    figure.legend(
        handles=[
            Patch(color=(r / 255, g / 255, b / 255), label=plain(name)) for name, (r, g, b) in legend.items()
        ],
        loc="outside lower center",
        ncols=min(len(legend), 6),
        fontsize=8,
        frameon=False,
    )
    return figure


def plain(text: str) -> str:
    """Return a text from a file in a figure: no mathematics, no line breaks, not endless."""
    return " ".join(text.split())[:40].replace("$", r"\$")
