"""Helpers for all pictures of a report: small files, and texts that mean nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

_PHOTOGRAPH_QUALITY = 78  # of WebP, 0 to 100: contours stay sharp, noise is not stored
_DIAGRAM_COLOURS = 128
_SHOWN_DPI, _SHARPER = 96, 1.4


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        title: short heading.
        alt: what it shows, for those who cannot see it.
        data: a WebP file.
        width: in pixels, as shown.
        height: in pixels, as shown.
        legend: names of its colours (`labels`), where they are others than those of the classes.
    """

    title: str
    alt: str
    data: bytes
    width: int
    height: int
    legend: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """The file as a data address."""
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


def photograph(rgb: NDArray[np.uint8], *, title: str, alt: str, legend: tuple[str, ...] = ()) -> Picture:
    """Return a picture of MR slices (height, width, 3), slightly lossy."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=_PHOTOGRAPH_QUALITY, method=4)
    height, width = rgb.shape[:2]
    return Picture(title, alt, buffer.getvalue(), width, height, legend)


def diagram(figure: Figure, *, title: str, alt: str) -> Picture:
    """Return a figure on white, with more pixels than it is shown in."""
    figure.set_dpi(_SHOWN_DPI * _SHARPER)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return _few_colours(image, title=title, alt=alt, shrink=_SHARPER)


def saved_diagram(png: bytes, *, title: str, alt: str) -> Picture:
    """Return a diagram that is a PNG file already."""
    return _few_colours(Image.open(io.BytesIO(png)).convert("RGB"), title=title, alt=alt, shrink=1)


def _few_colours(image: Image.Image, *, title: str, alt: str, shrink: float) -> Picture:
    buffer = io.BytesIO()
    # Median cut, the usual way, would move the colours of small areas, and so of the classes.
    reduced = image.quantize(
        _DIAGRAM_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    ).convert("RGB")
    reduced.save(buffer, "WEBP", lossless=True, method=4)
    width, height = (round(n / shrink) for n in image.size)
    return Picture(title, alt, buffer.getvalue(), width, height)


def stacked(pictures: Sequence[Picture], *, title: str, legend: Mapping[str, tuple[int, int, int]]) -> Figure:
    """Return a figure of pictures below each other.

    Args:
        pictures: of one width.
        title: above all of them.
        legend: name -> colour (RGB, 0 to 255), below them.
    """
    size = [max(p.width for p in pictures) / _SHOWN_DPI, sum(p.height for p in pictures) / _SHOWN_DPI]
    figure = Figure(figsize=(size[0] + 0.3, size[1] + 0.2 * len(pictures) + 0.8), layout="constrained")
    for axis, picture in zip(figure.subplots(len(pictures), squeeze=False)[:, 0], pictures, strict=True):
        axis.imshow(np.asarray(Image.open(io.BytesIO(picture.data))))
        axis.set_title(plain(picture.title), fontsize=8)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=8, wrap=True)
    figure.legend(
        handles=[Patch(color=np.array(rgb) / 255, label=plain(name)) for name, rgb in legend.items()],
        loc="outside lower center",
        ncols=min(len(legend), 6),
        fontsize=8,
        frameon=False,
    )
    return figure


def plain(text: str) -> str:
    """Return a text from a file in a figure: no mathematics, no line breaks, not endless."""
    return " ".join(text.split())[:40].replace("$", r"\$")
