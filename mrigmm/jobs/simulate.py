"""`mrigmm simulate`: a cohort with known truth, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mrigmm.jobs.common import Outcome, Track, no_progress
from mrigmm.phantom import simulate_cohort


def simulate(
    out: Path | str,
    *,
    studies: int,
    seed: int,
    preset: str = "cohort",
    region: Literal["lv", "cavity-wall"] = "lv",
    anatomy: Path | str | None = None,
    track: Track = no_progress,
) -> Outcome:
    """Simulate studies and write NIfTI files and `manifest.json`; the same arguments give the same bytes.

    Examples:
        >>> mrigmm.simulate("cohort", studies=8, seed=1).output  # doctest: +SKIP
        PosixPath('cohort/manifest.json')

    Args:
        out: new or empty folder.
        studies: how many.
        seed: of everything that is random.
        preset: kind of cohort (docs/phantom.md).
        region: region maps of the whole left ventricle, or of cavity and wall.
        anatomy: folder of the Sunnybrook data: real contours and real bSSFP, simulated LGE and T2.
        track: progress bar.

    Returns:
        The folder, and the ids of the studies in it.

    Raises:
        InputError: unknown preset, or the folder is not empty.
    """
    manifest = simulate_cohort(
        Path(out),
        n_studies=studies,
        seed=seed,
        preset=preset,
        region=region,
        anatomy_dir=None if anatomy is None else Path(anatomy),
        track=lambda items, _description, _total: track(items, "Simulating"),
    )
    return Outcome(manifest, ())
