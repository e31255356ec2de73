"""The bull's eye of the American Heart Association: one number for each of 16 segments."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

# Segments from the outside in: first segment, how many, where the first begins (degrees, the septum at the
# left and the anterior wall on top), inner and outer radius.
_RINGS = ((1, 6, 60.0, 0.75, 1.0), (7, 6, 60.0, 0.5, 0.75), (13, 4, 45.0, 0.25, 0.5))
_WALLS = {"anterior": (0.0, 1.08), "septal": (-1.08, 0.0), "inferior": (0.0, -1.08), "lateral": (1.08, 0.0)}
# Equal to readers with and without colour vision deficiency, and rising in lightness.
_COLOURS = "cividis"
_MISSING = "0.93"


def bulls_eye_figure(values: Mapping[int, float | None], *, title: str, unit: str) -> bytes:
    """Return values of the 16 AHA segments: basal ring outside, apical ring inside, anterior wall on top.

    Args:
        values: segment (1 to 16) -> value; segments that are absent, None or NaN are hatched.
        title: above the picture.
        unit: of the values; "%" spans 0 to 100, anything else 0 to the largest value.

    Returns:
        A PNG file.

    Raises:
        ValueError: a segment that is none of the 16.
    """
    if not set(values) <= set(range(1, 17)):
        raise ValueError(f"expected AHA segments 1 to 16, got {sorted(values)}")
    known = {number: float(v) for number, v in values.items() if v is not None and np.isfinite(v)}
    highest = 100.0 if unit == "%" else max(known.values(), default=0.0)
    scale = Normalize(0, highest if highest > 0 else 1.0)
    figure = Figure(figsize=(4.4, 3.9), layout="constrained", dpi=110)
    axes = figure.add_subplot(aspect="equal", xlim=(-1.18, 1.18), ylim=(-1.18, 1.18))
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)
    for first, count, start, inner, outer in _RINGS:
        for index in range(count):
            number = first + index
            begin = start + index * 360 / count
            colour = colormaps[_COLOURS](scale(known[number])) if number in known else _MISSING
            axes.add_patch(
                Wedge(
                    (0, 0),
                    outer,
                    begin,
                    begin + 360 / count,
                    width=outer - inner,
                    facecolor=colour,
                    edgecolor="white" if number in known else "0.78",
                    hatch=None if number in known else "////",
                    linewidth=1.2,
                )
            )
            middle, radius = np.deg2rad(begin + 180 / count), (inner + outer) / 2
            x, y = radius * np.cos(middle), radius * np.sin(middle)
            ink = "white" if number in known and scale(known[number]) < 0.5 else "black"
            text = f"{known[number]:.0f}" if number in known else "–"
            axes.text(x, y + 0.03, text, ha="center", va="center", fontsize=9, color=ink, weight="bold")
            axes.text(x, y - 0.07, f"seg {number}", ha="center", va="center", fontsize=5.5, color=ink)
    for name, (x, y) in _WALLS.items():
        turn = 90 if x < 0 else -90 if x > 0 else 0
        axes.text(x, y, name, ha="center", va="center", fontsize=7, rotation=turn)
    bar = figure.colorbar(ScalarMappable(scale, _COLOURS), ax=axes, shrink=0.7, pad=0.02)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
