"""`mrigmm demo`: the whole way on a simulated cohort, with nothing given but the images."""

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
from mrigmm.methods.registry import DEFAULT_METHOD

STUDIES, SEED, COHORT = 4, 7, "myops-like"
BASELINE = "em-gmm"


@dataclass(frozen=True, repr=False)
class DemoResult:
    """Files of the demo, and the evaluations of the pretrained networks and of the baseline.

    Attributes:
        manifest: of the cohort without its region maps.
    """

    folder: Path
    manifest: Path
    report: Path
    evaluations: dict[str, Evaluation]

    def __repr__(self) -> str:
        return "\n".join([f"DemoResult: {self.report}", *map(repr, self.evaluations.values())])


def demo(out: Path | str, *, track: Track = no_progress) -> DemoResult:
    """Simulate a cohort, segment its images alone, evaluate beside EM-GMM and write a report.

    Examples:
        >>> mrigmm.demo("mrigmm_demo").report  # doctest: +SKIP
        PosixPath('mrigmm_demo/report.html')

    Args:
        out: new folder.
        track: progress bar.

    Returns:
        Where everything lies, and `evaluations` of the pretrained networks and of EM-GMM, in the
        ventricle that the networks find.

    Raises:
        InputError: the folder already holds something.
    """
    folder = Path(out)
    require_new_folder(folder, holds="*")
    simulated = simulate(folder / "cohort", studies=STUDIES, seed=SEED, preset=COHORT, track=track)
    manifest = images_alone(simulated.output)
    evaluations = {}
    for name in (DEFAULT_METHOD, BASELINE):
        predictions = folder / "predictions" / name
        predict(
            manifest,
            predictions,
            method=name,
            split="all",
            device="cpu",
            save_probabilities=True,
            track=track,
        )
        evaluations[name] = evaluate(predictions, manifest, split="all", track=track)
    page = report(
        folder / "predictions" / DEFAULT_METHOD,
        out=folder / "report.html",
        beside=[folder / "predictions" / BASELINE],
        track=track,
    )
    return DemoResult(folder, manifest, page.output, evaluations)


def images_alone(manifest: Path) -> Path:
    """Write a manifest beside another, without its region maps; the labels stay for `evaluate`."""
    content = json.loads(manifest.read_text(encoding="utf-8"))
    for split in ("training", "test"):
        for study in content[split]:
            del study["region"]
    out = manifest.with_name("images_alone.json")
    write_json(out, content)
    return out
