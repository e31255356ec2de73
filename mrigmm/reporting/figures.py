"""Pictures of segmented studies. Figures are made without a display and returned as PNG bytes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mrigmm.reporting.pictures import MAX_SLICES, nice_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MARGIN = 12  # pixels shown around the labelled area


def motion_figure(
    before: Mapping[str, NDArray[np.float32]],
    after: Mapping[str, NDArray[np.float32]],
    captions: Mapping[str, Sequence[str]],
    region: NDArray[np.bool_],
    *,
    pixel_aspect: float = 1.0,
) -> bytes:
    """Return slices of a study without and with registration, the outline of the region over each.

    Args:
        before: sequence name -> intensities (X, Y, Z) as acquired, slices along the last axis.
        after: the same, registered.
        captions: name -> what each of the Z slices was moved by; sequences without are shown once.
        region: (X, Y, Z).
        pixel_aspect: height over width of a displayed pixel (second over first axis).

    Returns:
        A PNG file.
    """
    slices = chosen_slices(region.astype(np.uint8))
    window = _window(region.astype(np.uint8))
    blank = [""] * region.shape[2]
    rows = [(name, before[name], blank) for name in before if name not in captions]
    for name, texts in captions.items():
        rows += [(f"{name} before", before[name], blank), (f"{name} after", after[name], [*texts])]
    figure = new_figure((1.9 * len(slices) + 0.5, 1.9 * len(rows) + 0.5), layout="compressed")
    axes = figure.subplots(len(rows), len(slices), squeeze=False)
    for row, (name, volume, texts) in enumerate(rows):
        for column, z in enumerate(slices):
            axis = axes[row, column]
            image, outline = volume[(*window, z)], shown(region[(*window, z)])
            low, high = np.percentile(image, [1, 99])
            axis.imshow(shown(image), cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=pixel_aspect)
            if outline.any() and not outline.all():
                axis.contour(outline, levels=[0.5], colors="yellow", linewidths=0.7)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(f"slice {z + 1}", fontsize=8)
            axis.set_xlabel(texts[z], fontsize=7)
            if column == 0:
                axis.set_ylabel(name, fontsize=9)
    return png(figure)


def loss_figure(log: Mapping[str, Sequence[float]]) -> bytes:
    """Return the objective per epoch, of training and of held-out studies, and the learning rate below.

    Args:
        log: columns of a run's `log.csv`.

    Returns:
        A PNG file.
    """
    figure = new_figure((6.4, 4.8))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, label in {"objective": "training", "held_out": "held-out studies"}.items():
        if name in log:
            above.plot(log["epoch"], log[name], marker=".", label=label)
    above.set_ylabel("objective")
    above.legend(frameon=False)
    below.plot(log["epoch"], log["learning_rate"], marker=".", color="grey")
    below.set_ylabel("learning rate")
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    return png(figure)


def new_figure(
    inches: tuple[float, float], layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """Return an empty figure; matplotlib is imported for the first, because most runs draw none."""
    from matplotlib.figure import Figure

    return Figure(figsize=inches, layout=layout)


def png(figure: Figure, dpi: int = 90) -> bytes:
    """Return a figure as a PNG file, made without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def chosen_slices(labels: NDArray[np.uint8]) -> list[int]:
    """Up to `MAX_SLICES` slices with labels, evenly spread."""
    used = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    if used.size == 0:
        used = np.arange(labels.shape[2])
    return [int(used[i]) for i in np.unique(np.linspace(0, used.size - 1, MAX_SLICES).round().astype(int))]


def _window(labels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the in-plane box around everything labelled, with a margin."""
    box = []
    for axis in (0, 1):
        used = np.flatnonzero((labels > 0).any(axis=tuple({0, 1, 2} - {axis})))
        if used.size == 0:
            box.append(slice(0, labels.shape[axis]))
        else:
            box.append(slice(max(int(used[0]) - _MARGIN, 0), int(used[-1]) + _MARGIN + 1))
    return box[0], box[1]


def shown(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """First array axis to the right, second upwards (as viewers show an axial slice)."""
    return np.swapaxes(image, 0, 1)[::-1]


WIDTH, HEIGHT = 420.0, 110.0  # of the part with the dots
_COLUMNS = 42  # that dots are stacked in
_LARGEST = 5.0  # radius


@dataclass(frozen=True)
class Distribution:
    """Dots of a cohort; lengths in pixels, y downwards.

    Attributes:
        dots: (across, down, study and its number in words).
        radius: of a dot.
        ticks: (across, number).
        median: (across, number).
        title: of what, with the unit.
    """

    dots: tuple[tuple[float, float, str], ...]
    radius: float
    ticks: tuple[tuple[float, str], ...]
    median: tuple[float, str]
    title: str


def distribution(values: Mapping[str, float], title: str) -> Distribution:
    """Return the dots of numbers from 0 upwards, stacked where they are alike.

    Args:
        values: study -> number; at least one.
        title: of what, with the unit.
    """
    highest = max(max(values.values()), 1.0)
    ticks = nice_ticks(0, highest, 6)
    across = WIDTH / ticks[-1]
    column = WIDTH / _COLUMNS
    placed: Counter[int] = Counter()
    stacks = []
    for study, value in sorted(values.items(), key=lambda item: item[1]):
        index = min(int(value * across / column), _COLUMNS - 1)
        stacks.append((index, placed[index], study, value))
        placed[index] += 1
    radius = min(_LARGEST, column / 2, HEIGHT / (2 * max(placed.values())))
    middle = float(np.median([*values.values()]))
    return Distribution(
        dots=tuple(
            ((index + 0.5) * column, HEIGHT - (2 * level + 1) * radius, f"{study}: {value:.1f}")
            for index, level, study, value in stacks
        ),
        radius=radius,
        ticks=tuple((t * across, f"{t:g}") for t in ticks),
        median=(middle * across, f"{middle:.1f}"),
        title=title,
    )
