"""`mrigmm segment-image`: a natural image into k segments, by any method that needs no cardiac anatomy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrigmm.data.files import remove, require_new_file, require_not_input
from mrigmm.data.photographs import Photograph, photograph_study, read_mask, read_photograph
from mrigmm.data.study import NO_CORRECTIONS
from mrigmm.errors import InputError, told
from mrigmm.export.photographs import write_label_image, write_overlay
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import Outcome, select_device, versions
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.labels import segment_colours
from mrigmm.methods.base import CohortMethod, Method, Segmentation, Task
from mrigmm.methods.registry import METHODS, make_method
from mrigmm.settings_yaml import Overrides, parse_overrides

MAX_SEGMENTS = 255  # of an 8-bit label image


@dataclass(frozen=True)
class SegmentedPhotograph:
    """Segmentation of a photograph.

    Attributes:
        labels: (H, W) uint8, segments 1 to k, 0 outside the mask.
        segmentation: the whole result.
        method: what segmented.
        warnings: what the user should know.
    """

    labels: NDArray[np.uint8]
    segmentation: Segmentation
    method: Method
    warnings: tuple[str, ...]


def segment_image(
    image: Path | str,
    out: Path | str,
    *,
    method: str = "kmeans",
    k: int = 5,
    mask: Path | str | None = None,
    overlay: Path | str | None = None,
    overrides: Overrides = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Outcome:
    """Segment a natural image and write its label image, and what was done as JSON of the same name.

    Examples:
        >>> mrigmm.segment_image("photo.png", "labels.png", method="em-gmm", k=4)  # doctest: +SKIP

    Args:
        image: PNG, JPEG, TIFF or BMP.
        out: label image to write (PNG): segments 1 to k, 0 outside the mask, on the pixels as stored.
        method: name of a method (`mrigmm info`).
        k: number of segments, 2 to 255.
        mask: image of the same size, not black where to segment; default everywhere.
        overlay: picture with the borders of the segments to write too (PNG).
        overrides: settings of the method: `key=value` texts, or values by key.
        device: "auto", "cpu", "cuda" or "cuda:N".
        overwrite: allow to replace results.

    Returns:
        The label map, with warnings among its problems.

    Raises:
        InputError: when the image cannot be segmented, or a result would replace something.
    """
    started = time.perf_counter()
    image, out = Path(image), Path(out)
    files = {"labels": out, "json": out.with_suffix(".json")}
    if overlay is not None:
        files["overlay"] = Path(overlay)
    inputs = [image, *([] if mask is None else [Path(mask)])]
    _require_free(files, inputs, overwrite=overwrite)
    photograph = read_photograph(image)
    inside = photograph.opaque if mask is None else photograph.opaque & read_mask(Path(mask), photograph)
    found = segment_photograph(
        photograph, inside, method=method, k=k, settings=parse_overrides(overrides), device=device
    )
    for stale in files.values():
        remove(stale)
    try:
        write_label_image(out, found.labels, k, orientation=photograph.orientation)
        if overlay is not None:
            write_overlay(
                files["overlay"], photograph.display, found.labels, k, orientation=photograph.orientation
            )
        content = _side_file(photograph, found, k, mask)
        write_json(files["json"], {**content, "seconds": round(time.perf_counter() - started, 3)})
    except BaseException:  # labels without their side file are half a result
        for file in files.values():
            remove(file)
        raise
    return Outcome(out, (image.name,), tuple(told(found.warnings, "warning", image.name)))


def segment_photograph(
    photograph: Photograph,
    inside: NDArray[np.bool_],
    *,
    method: str,
    k: int,
    settings: Mapping[str, object] | None = None,
    device: str = "auto",
) -> SegmentedPhotograph:
    """Segment a photograph in memory, where (H, W) `inside` is true.

    Raises:
        InputError: too few pixels, or the method does not segment photographs.
    """
    if not 2 <= k <= MAX_SEGMENTS:
        raise InputError(
            "the number of segments is not possible", expected=f"2 to {MAX_SEGMENTS}", got=str(k)
        )
    if (n_pixels := int(inside.sum())) < k:
        raise InputError(
            "there are fewer pixels than segments",
            file=photograph.file,
            expected=f"at least {k} pixels that are not transparent and inside the mask",
            got=str(n_pixels),
        )
    study = photograph_study(photograph, inside)
    classes = tuple(f"segment {number}" for number in range(1, k + 1))
    task = Task(classes, study.sequences, None, device=select_device(device))
    made = _method(method, task, settings or {})
    if isinstance(made, CohortMethod) and made.wants_cohort:
        made.fit_cohort(lambda: iter([study]))
    result = Segmenter(made, classes, study.sequences, None, {}, NO_CORRECTIONS).segment(study)
    labels = result.labels[..., 0].numpy()
    empty = sorted(set(range(1, k + 1)) - set(np.unique(labels).tolist()))
    notes = [f"segments without pixels: {', '.join(map(str, empty))}"] if empty else []
    return SegmentedPhotograph(labels, result, made, (*study.warnings, *result.warnings, *notes))


def _method(name: str, task: Task, settings: Mapping[str, object]) -> Method:
    """A method for photographs; one that refuses them says so in these words."""
    if name not in METHODS and Path(name).is_dir():
        raise InputError(
            "a trained run segments cardiac studies, not photographs",
            got=name,
            remedy="give the name of a method (mrigmm info)",
        )
    if name in METHODS:
        try:
            make_method(name, task, {})
        except InputError as error:
            raise InputError(
                f"{name} does not segment photographs",
                got=error.problems[0].what,
                remedy="use a method that needs neither anatomy nor a prior, such as kmeans or em-gmm",
            ) from None
    return make_method(name, task, settings)


def _require_free(files: Mapping[str, Path], inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse outputs that are no PNG, that are each other, that are read, or that are there."""
    for what in ("labels", "overlay"):
        if what in files and files[what].suffix.lower() != ".png":
            raise InputError(
                "segments are written as PNG",
                file=files[what],
                expected="a name that ends in .png",
                remedy="JPEG would change the labels" if what == "labels" else None,
            )
    if len({file.resolve() for file in files.values()}) < len(files):
        raise InputError("the overlay would replace the label image", file=files["overlay"])
    require_not_input(*files.values(), inputs=inputs)
    for file in files.values():
        require_new_file(file, overwrite=overwrite)


def _side_file(
    photograph: Photograph, found: SegmentedPhotograph, k: int, mask: Path | str | None
) -> dict[str, Any]:
    """Return what stands in the JSON beside the label image; see docs/photographs.md."""
    height, width = found.labels.shape
    result = found.segmentation
    return {
        "image": str(photograph.file.resolve()),
        "mask": None if mask is None else str(Path(mask).resolve()),
        "width": width,
        "height": height,
        "orientation": photograph.orientation,
        "channels": photograph.channels,
        "method": found.method.name,
        "settings": found.method.describe(),
        "segments": [
            _segment(photograph, found.labels == number, number, colour)
            for number, colour in enumerate(segment_colours(k), start=1)
        ],
        "pixels_outside": int((found.labels == 0).sum()),
        "iterations": result.n_iter,
        "converged": result.converged,
        **result.details,
        "warnings": found.warnings,
        "versions": {**versions(), "pillow": version("pillow")},
    }


def _segment(
    photograph: Photograph, members: NDArray[np.bool_], number: int, colour: tuple[int, int, int]
) -> dict[str, Any]:
    """One segment: its pixels, and their mean in the units of the image (none of an empty segment)."""
    n_pixels = int(members.sum())
    means = photograph.values[members].mean(axis=0, dtype=np.float64) if n_pixels else None
    return {
        "label": number,
        "pixels": n_pixels,
        "mean": None
        if means is None
        else {name: float(m) for name, m in zip(photograph.channels, means, strict=True)},
        "colour": colour,
    }
