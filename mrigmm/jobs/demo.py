"""`mrigmm demo`: the whole way on a small simulated cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mrigmm.data.files import require_new_folder
from mrigmm.jobs.common import Track, no_progress
from mrigmm.jobs.evaluate import Evaluation, evaluate
from mrigmm.jobs.predict import predict
from mrigmm.jobs.report import report
from mrigmm.jobs.simulate import simulate
from mrigmm.jobs.train import train

STUDIES, SEED, COHORT, PRESET = 12, 7, "small", "tiny"
DEEP, BASELINE = "deep-gem", "em-gmm"


@dataclass(frozen=True)
class DemoResult:
    """Where the demo left what, and the evaluations of the deep GMM and of the baseline."""

    folder: Path
    manifest: Path
    run: Path
    report: Path
    evaluations: dict[str, Evaluation]


def demo(out: Path | str, *, progress: bool = False, track: Track = no_progress) -> DemoResult:
    """Simulate, train, predict, evaluate beside EM-GMM, report.

    Example:
        >>> mrigmm.demo("mrigmm_demo").report  # doctest: +SKIP
        PosixPath('mrigmm_demo/report.html')

    Args:
        out: new folder.
        progress: show the training's progress bar.
        track: progress bar of the other steps.

    Raises:
        InputError: the folder already holds something.
    """
    folder = Path(out)
    require_new_folder(folder, holds="*")
    manifest = simulate(folder / "cohort", studies=STUDIES, seed=SEED, preset=COHORT, track=track).output
    run = train(manifest, folder / "run", preset=PRESET, device="cpu", progress=progress, track=track).output
    evaluations = {}
    for name, how in {DEEP: {"run": run}, BASELINE: {"method": BASELINE}}.items():
        predictions = folder / "predictions" / name
        predict(manifest, predictions, device="cpu", save_probabilities=True, track=track, **how)  # type: ignore[arg-type]
        evaluations[name] = evaluate(predictions, manifest, track=track)
    page = report(
        folder / "predictions" / DEEP,
        out=folder / "report.html",
        beside=[folder / "predictions" / BASELINE],
        track=track,
    )
    return DemoResult(folder, manifest, run, page.output, evaluations)
