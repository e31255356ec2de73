"""`mrigmm demo`: the whole way on a small simulated cohort."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mrigmm.data.files import require_new_folder
from mrigmm.export.side_files import write_json
from mrigmm.jobs.common import Track, no_progress
from mrigmm.jobs.evaluate import Evaluation, evaluate
from mrigmm.jobs.predict import predict
from mrigmm.jobs.report import report
from mrigmm.jobs.simulate import simulate
from mrigmm.jobs.train import train
from mrigmm.jobs.train_anatomy import train_anatomy

STUDIES, SEED, COHORT, PRESET = 12, 7, "small", "tiny"
DEEP, BASELINE = "deep-gem", "em-gmm"
LABELLED = 2  # of the cohort's studies: the anatomy stage learns from these
ANATOMY = ("spacing_mm=2.5", "view_mm=120", "levels=3", "epochs=6")


@dataclass(frozen=True, repr=False)
class DemoResult:
    """Where the demo left what, and the evaluations of the deep GMM and of the baseline.

    Attributes:
        without_region: report of a study that was segmented without its region map.
    """

    folder: Path
    manifest: Path
    run: Path
    report: Path
    without_region: Path
    evaluations: dict[str, Evaluation]

    def __repr__(self) -> str:
        return "\n".join([f"DemoResult: {self.report}", *map(repr, self.evaluations.values())])


def demo(out: Path | str, *, track: Track = no_progress) -> DemoResult:
    """Simulate, train, predict, evaluate beside EM-GMM, report; then a study without a region map.

    Examples:
        >>> mrigmm.demo("mrigmm_demo").report  # doctest: +SKIP
        PosixPath('mrigmm_demo/report.html')

    Args:
        out: new folder.
        track: progress bar.

    Returns:
        Where everything lies, and `evaluations` of the deep GMM and of EM-GMM.

    Raises:
        InputError: the folder already holds something.
    """
    folder = Path(out)
    require_new_folder(folder, holds="*")
    manifest = simulate(folder / "cohort", studies=STUDIES, seed=SEED, preset=COHORT, track=track).output
    run = train(manifest, folder / "run", preset=PRESET, device="cpu", track=track).output
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
    anatomy = train_anatomy(
        manifest,
        folder / "anatomy",
        labelled=LABELLED,
        overrides=ANATOMY,
        device="cpu",
        track=track,
    ).output
    bare = _without_region(manifest)
    predictions = folder / "predictions" / "without-region"
    predict(bare, predictions, run=run, anatomy=anatomy, device="cpu", track=track)
    evaluate(predictions, bare, track=track)
    found = report(predictions, out=folder / "without_region.html", track=track)
    return DemoResult(folder, manifest, run, page.output, found.output, evaluations)


def _without_region(manifest: Path) -> Path:
    """A manifest beside another that holds its first test study without the region map."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    study = content["test"][0]
    del study["region"]
    out = manifest.with_name("without_region.json")
    write_json(out, {**content, "training": [], "test": [study]})
    return out
