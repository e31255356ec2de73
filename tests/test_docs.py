"""Every command that README and docs show is run; every file they link to exists."""

import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pydicom
import pytest
import typer
from nbclient import NotebookClient
from notebooks import guides, notebook
from traitlets.config import Config

import mrigmm.mixture
from mrigmm.cli import app
from mrigmm.config import make_config
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.sources.table import KINDS
from mrigmm.phantom import simulate_cohort

from .data.dicom.files import series as dicom_series

ROOT = Path(__file__).parent.parent
COMMANDS = typer.main.get_command(app).commands
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data_manifests/*.md")])


MAKE_PLACE = re.compile(r"^mkdir (\w+) && cd \1\n", flags=re.MULTILINE)


def blocks(page, language):
    """The blocks of a page; a test has a folder of its own, and need not make one."""
    text = MAKE_PLACE.sub("", page.read_text())
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def run(arguments, folder):
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, f"{arguments}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def without_numbers(text):
    """Digits differ from one processor to the next, and with them the spaces beside them."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.]+", "#", text))


@pytest.mark.gate
def test_commands_of_readme_and_steps_run_in_their_order(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages, printed = (ROOT / "README.md", ROOT / "docs" / "steps.md"), ""
    commands = [line for page in pages for block in blocks(page, "console") for line in block.splitlines()]
    assert len(commands) >= 10
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "mrigmm"
        result = cli(*arguments)
        assert result.code == 0, result.err
        printed += result.out
    shown = [block for page in pages for block in blocks(page, "text")]
    assert len(shown) >= 4
    for block in shown:
        assert without_numbers(block) in without_numbers(printed)
    # The site's first page goes on from the same cohort.
    for page in (pages[1], ROOT / "docs" / "index.md"):
        for code in blocks(page, "python"):
            run([sys.executable, "-c", code], tmp_path)
    assert (tmp_path / "predictions" / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="SLURM and GNU tools")
def test_commands_and_scripts_of_the_training_page_run_in_their_order(tmp_path, cluster):
    programs = {"mrigmm": ["-m", "mrigmm"], "torchrun": ["-m", "torch.distributed.run"]}
    page = ROOT / "docs" / "training.md"
    commands = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert len(commands) >= 7
    for command in commands:
        program, *arguments = shlex.split(command)
        run([sys.executable, *programs[program], *arguments, "--quiet"], tmp_path)
    assert (tmp_path / "run" / "loss.png").exists()
    (settings,) = blocks(page, "yaml")
    (tmp_path / "settings.yaml").write_text(settings)
    assert make_config(file=tmp_path / "settings.yaml").epochs == 2

    _several_nodes, seeds = blocks(page, "bash")  # the first one needs GPUs
    for seed in (1, 2):
        cluster(seeds.replace("--quiet", "--config settings.yaml --quiet"), array_task=seed)
    weights = [(tmp_path / "seeds" / seed / "weights.safetensors").read_bytes() for seed in "12"]
    assert weights[0] != weights[1]
    (tmp_path / "seeds" / "2" / "run.json").unlink()
    cluster(seeds.replace("--quiet", "--config settings.yaml --quiet"), array_task=2)
    assert (tmp_path / "seeds" / "2" / "run.json").exists()


@pytest.mark.gate
def test_commands_of_the_few_labels_page(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks_of_page = blocks(ROOT / "docs" / "few_labels.md", "console")
    commands = [line for block in blocks_of_page for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        result = cli(*shlex.split(command)[1:], "--quiet")
        assert result.code == 0, result.err
    assert (tmp_path / "run_folds" / "folds" / "predictions" / "metrics.json").exists()
    assert "Cohort 2" in (tmp_path / "run_later" / "model_card.md").read_text()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Runs a SLURM script as a task of the only node: `cluster(script, array_task=2)`."""
    programs = {
        "mrigmm": f'exec {shlex.quote(sys.executable)} -m mrigmm "$@"',
        "torchrun": f'exec {shlex.quote(sys.executable)} -m torch.distributed.run "$@"',
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "sbatch": f'echo "$@" >> {shlex.quote(str(tmp_path / "submitted"))}; echo 17',
        "scontrol": "echo localhost",
    }
    where = tmp_path / "bin"
    where.mkdir()
    for name, line in programs.items():
        (where / name).write_text(f"#!/bin/bash\n{line}\n")
        (where / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{where}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"NODELIST": "localhost", "NUM_NODES": "1", "ID": str(os.getpid())}.items():
        monkeypatch.setenv(f"SLURM_JOB_{name}", value)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")

    def submit(script, array_task=None):
        if array_task is not None:
            monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(array_task))
        return run(["bash", "-e", "-u", "-c", script], tmp_path)

    return submit


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="SLURM and GNU tools")
def test_commands_and_scripts_of_the_scale_page(tmp_path, cluster):
    programs = {"mrigmm": ["-m", "mrigmm"], "torchrun": ["-m", "torch.distributed.run"]}
    page = ROOT / "docs" / "scale.md"
    commands = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        program, *arguments = shlex.split(command)
        run([sys.executable, *programs[program], *arguments, "--quiet"], tmp_path)
    nodes, array, together, chain, told = blocks(page, "bash")
    cluster(nodes)
    image = tmp_path / "cohort" / "images" / "study_001_LGE.nii.gz"
    image.rename(tmp_path / "hidden")  # so that the second part fails, and the first merge lacks a study
    for task in (1, 2, 3):
        cluster(f"{array.rstrip()} || [ $? = 2 ]", array_task=task)
    cluster(f"{together.rstrip()} || [ $? = 2 ]")
    assert cluster(told).startswith("some studies failed")
    nothing = told.replace("cohort/manifest.json", "none.json").replace("exit 1", "exit 0")
    assert cluster(nothing) == "no study has a result\n"
    (tmp_path / "hidden").rename(image)
    for task in (1, 2):  # the first is kept as it was
        cluster(array, array_task=task)
    cluster(together)
    assert cluster(told) == "every study has a result\n"
    cluster(chain)
    submitted = (tmp_path / "submitted").read_text().splitlines()
    assert submitted == ["--parsable array.sh", "--dependency=afterany:17 merge.sh"]
    names = {file.name for file in (tmp_path / "several").iterdir()}
    assert len([name for name in names if name.endswith("_labels.nii.gz")]) == 6
    assert {file.name for file in (tmp_path / "predictions").iterdir()} == names
    for name in names:
        if not name.endswith(".json"):  # those hold the seconds
            assert (tmp_path / "predictions" / name).read_bytes() == (
                tmp_path / "several" / name
            ).read_bytes()
    for folder in ("shared", "pooled"):
        assert len(list((tmp_path / folder).glob("*_labels.nii.gz"))) == 6


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=lambda page: page.name)
def test_scripts_of_pages_are_bash_and_their_commands_known(page):
    for script in blocks(page, "bash"):
        run(["bash", "-n", "-c", script], ROOT)
        for command in re.findall(r"\bmrigmm ([a-z-]+) (.*)", script.replace("\\\n", " ")):
            name, options = command[0], re.findall(r" (--[a-z-]+)", command[1])
            known = {text for option in COMMANDS[name].params for text in option.opts}
            assert set(options) <= known, command


@pytest.mark.slow
def test_commands_of_the_anatomy_page(tmp_path):
    program = [sys.executable, "-m", "mrigmm"]
    quick = ["--set", "view_mm=120", "--set", "spacing_mm=2.5", "--set", "levels=3", "--set", "epochs=5"]
    commands = blocks(ROOT / "docs" / "anatomy.md", "console")[0].splitlines()
    assert len(commands) == 4
    for command in commands:
        _, name, *arguments = shlex.split(command)
        extra = quick if name == "train-anatomy" else []
        extra = ["--set", "epochs=1"] if name == "train" else extra
        run([*program, name, *arguments, *extra, "--quiet"], tmp_path)
    assert len(list((tmp_path / "auto").glob("*_region.nii.gz"))) == 1


@pytest.mark.slow
def test_commands_of_the_evaluation_page_run_in_their_order(tmp_path):
    commands = blocks(ROOT / "docs" / "evaluation.md", "console")[0].splitlines()
    assert [command.split()[1] for command in commands[-3:]] == ["compare", "agreement", "compare"]
    for command in commands:
        run([sys.executable, "-m", *shlex.split(command), "--quiet"], tmp_path)
    metrics = json.loads((tmp_path / "predictions" / "map-em" / "metrics.json").read_text())
    assert len(metrics["calibration"]["studies"]) == 6
    assert (tmp_path / "comparison" / "comparison.png").exists()
    assert (tmp_path / "readers" / "agreement.png").exists()
    assert len(list((tmp_path / "agreement").glob("*_agreement.nii.gz"))) == 6


def test_commands_of_the_data_page_for_a_flat_folder(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cohort = simulate_cohort(tmp_path / "cohort", n_studies=2, seed=1, preset="small")
    page = ROOT / "docs" / "data.md"
    (layout,) = blocks(page, "text")
    (tmp_path / "flat").mkdir()
    for study, line in zip(read_manifest(cohort).split("all"), layout.splitlines(), strict=True):
        for name, file in zip(("LGE", "T2", "mask"), line.split(), strict=True):
            assert file.endswith(f"_{name}.nii.gz")
            (study.region if name == "mask" else study.images[name]).rename(tmp_path / file)
    commands = blocks(page, "console")[0].splitlines()
    assert [shlex.split(command)[1] for command in commands] == ["manifest", "check", "predict", "report"]
    for command in commands:
        result = cli(*shlex.split(command)[1:])
        assert result.code == 0, result.err
        assert "did you mean" not in result.err
    assert {path.name for path in (tmp_path / "predictions").glob("*_labels.nii.gz")} == {
        "p01_labels.nii.gz",
        "p02_labels.nii.gz",
    }


def as_dicom(cohort, folder):
    """The cohort's studies as DICOM series; returns the region map (X, Y, Z) of each."""
    regions = {}
    for number, study in enumerate(read_manifest(cohort).split("all"), start=1):
        for position, (sequence, file) in enumerate(study.images.items(), start=1):
            volume = np.asarray(nib.load(file).dataobj)
            scaled = (volume - volume.min()) / np.ptp(volume) * 4000
            dicom_series(
                folder,
                scaled.round().astype(np.uint16).transpose(2, 1, 0),
                patient=study.id,
                study=number,
                series=position,
                description={"LGE": "LGE_sax", "T2": "T2_STIR_sax", "bSSFP": "cine_sax"}[sequence],
                FrameOfReferenceUID=f"1.2.3.{number}",
            )
        regions[study.id] = np.asarray(nib.load(study.region).dataobj)
    return regions


def test_the_walk_of_the_dicom_page_from_series_to_segmentation_objects(tmp_path, cli, monkeypatch):
    cohort = simulate_cohort(tmp_path / "cohort", n_studies=2, seed=1, preset="small")
    regions = as_dicom(cohort, tmp_path / "EXPORT")
    monkeypatch.chdir(tmp_path)
    commands = blocks(ROOT / "docs" / "dicom.md", "console")[0].splitlines()
    assert len(commands) == 5
    for command in commands:
        _, *arguments = shlex.split(command)
        result = cli(*arguments)
        assert result.code == 0, result.err
        if "--map" not in command and "manifest" in arguments:
            (tmp_path / "OUT" / "regions").mkdir()
            for study, region in regions.items():
                affine = nib.load(tmp_path / "OUT" / "images" / f"{study}_LGE.nii.gz").affine
                drawn = nib.Nifti1Image(region.astype(np.uint8), affine)
                nib.save(drawn, tmp_path / "OUT" / "regions" / f"{study}.nii.gz")
    for study, region in regions.items():
        seg = pydicom.dcmread(tmp_path / "SEG" / f"{study}_seg.dcm")
        labels = np.asarray(nib.load(tmp_path / "PRED" / f"{study}_labels.nii.gz").dataobj)
        assert seg.pixel_array.sum() == (labels > 0).sum() == (region > 0).sum()


@pytest.mark.slow
def test_commands_of_the_exports_page(tmp_path):
    cohort = simulate_cohort(tmp_path / "cohort", n_studies=3, seed=1, preset="small")
    quick = ["--preset", "tiny", "--set", "epochs=1", "--device", "cpu"]
    run([sys.executable, "-m", "mrigmm", "train", str(cohort), "-o", "run", *quick, "--quiet"], tmp_path)
    page = ROOT / "docs" / "exports.md"
    commands = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert len(commands) == 4
    for command in commands:
        _, *arguments = shlex.split(command)
        run([sys.executable, "-m", "mrigmm", *arguments, "--quiet"], tmp_path)
    assert len(list((tmp_path / "predictions").glob("*_entropy.nii.gz"))) == 1
    assert len(list((tmp_path / "ids").glob("*_labels.nii.gz"))) == 1
    assert (tmp_path / "bids" / "derivatives" / "mrigmm" / "dseg.tsv").exists()
    assert (tmp_path / "bundle" / "docs" / "README.md").exists()


def executed(page, folder):
    """The notebook of a page after a run in a folder; raises where a cell fails."""
    made = nbformat.reads(notebook(ROOT / "docs" / page), as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    with tempfile.TemporaryDirectory() as place:
        # Over files, since a port that was free may be taken before the kernel has it.
        files = Config(KernelManager={"transport": "ipc", "ip": f"{place}/kernel"})
        NotebookClient(made, timeout=600, startup_timeout=600, config=files, resources=resources).execute()
    return made


@pytest.mark.gate
@pytest.mark.skipif(sys.platform == "win32", reason="%%bash")
def test_notebooks_on_masks_and_readers_run(tmp_path):
    for page in ("measure.md", "readers.md"):
        executed(page, tmp_path)
    assert "data:image" in (tmp_path / "measure" / "measured" / "report.html").read_text()
    assert "ICC" in (tmp_path / "readers" / "agreement" / "agreement.md").read_text()


@pytest.mark.parametrize("page", guides(), ids=lambda page: page.stem)
def test_a_notebook_has_all_code_of_its_page_and_nothing_else(page):
    cells = nbformat.reads(notebook(page), as_version=4).cells
    code = [cell.source.removeprefix("%%bash -e\n") for cell in cells if cell.cell_type == "code"]
    shown = re.findall(r"^```(?:console|python)\n(.*?)^```", page.read_text(), flags=re.M | re.S)
    place = [f"%mkdir {name}\n%cd {name}" for name in MAKE_PLACE.findall(page.read_text())]
    assert [text for text in code if text not in place] == [MAKE_PLACE.sub("", b).rstrip() for b in shown]
    assert len(place) == len([text for text in code if text in place]) <= 1
    words = "".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert f"# {re.search(r'^# (.*)', page.read_text())[1]}" in words
    assert "](" not in words


def test_every_guide_that_simulates_a_cohort_has_a_folder_of_its_own():
    begin = [page for page in guides() if "\nmrigmm simulate -o cohort" in page.read_text()]
    assert len(begin) >= 10
    for page in begin:
        assert f"```console\nmkdir {page.stem} && cd {page.stem}\n" in page.read_text()


@pytest.mark.slow
def test_commands_of_the_quantities_page(tmp_path):
    commands = blocks(ROOT / "docs" / "quantities.md", "console")[0].splitlines()
    assert len(commands) == 5
    for command in commands:
        run([sys.executable, "-m", "mrigmm", *shlex.split(command)[1:], "--quiet"], tmp_path)
    assert "agreement" in json.loads((tmp_path / "predictions" / "quantities.json").read_text())


@pytest.mark.gate
def test_demo_runs_as_the_readme_says(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "mrigmm demo\n" in (ROOT / "README.md").read_text()
    assert cli("demo", "--quiet").code == 0
    folder = tmp_path / "mrigmm_demo"
    assert (folder / "report.html").exists()
    for name in ("pretrained", "em-gmm"):
        for kind in ("labels", "region"):
            assert len(list((folder / "predictions" / name).glob(f"*_{kind}.nii.gz"))) == 4
        assert (folder / "predictions" / name / "metrics.json").exists()


def myops_download(folder):
    """MyoPS 2020 as it is downloaded, but simulated: names, folders and ids of the challenge."""
    cohort = simulate_cohort(folder / "phantom", n_studies=27, seed=5, preset="small")
    ids = np.array([0, 500, 200, 1220, 2221], dtype=np.int16)
    download = folder / "MyoPS2020"
    for part in ("train25", "train25_myops_gd", "test20"):
        (download / part).mkdir(parents=True)
    names = [f"myops_training_{number}" for number in range(101, 126)] + ["myops_test_201", "myops_test_202"]
    for name, study in zip(names, read_manifest(cohort).split("all"), strict=True):
        labelled = name.startswith("myops_training")
        for sequence, path in study.images.items():
            alias = {"LGE": "DE", "T2": "T2", "bSSFP": "C0"}[sequence]
            path.rename(download / ("train25" if labelled else "test20") / f"{name}_{alias}.nii.gz")
        if not labelled:
            continue
        label = nib.load(study.label)
        truth = ids[np.asarray(label.dataobj).astype(int)]
        nib.save(nib.Nifti1Image(truth, label.affine), download / "train25_myops_gd" / f"{name}_gd.nii.gz")


@pytest.mark.slow
def test_from_a_download_to_a_report_as_the_tutorial_says(tmp_path):
    myops_download(tmp_path)
    anatomy = ["--set", "view_mm=120", "--set", "spacing_mm=2.5", "--set", "levels=3", "--set", "epochs=5"]
    quick = {"train": ["--preset", "tiny", "--set", "epochs=1"], "train-anatomy": anatomy}
    page = (ROOT / "docs" / "tutorial_myops.md").read_text()
    parts = re.findall(
        r"^```console\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", page, flags=re.MULTILINE | re.DOTALL
    )
    assert len(parts) >= 10
    for commands, shown in parts:
        for command in commands.splitlines():
            _, name, *arguments = shlex.split(command)
            printed = run(
                [sys.executable, "-m", "mrigmm", name, *arguments, *quick.get(name, []), "--quiet"], tmp_path
            )
        assert not shown or shown.splitlines()[-1] in printed.splitlines()
    predictions = tmp_path / "predictions"
    metrics = json.loads((predictions / "run" / "metrics.json").read_text())
    assert list(metrics["studies"]) == [f"myops_training_{n}" for n in (109, 114, 117, 120, 122)]
    assert metrics["seen_by_prior"] == {"sure": [], "perhaps": []}
    assert metrics["summary"]["blood"]["dice_mean"] > 0.5
    side = json.loads((predictions / "run" / "myops_training_109.json").read_text())
    assert len(side["prior"]["study_ids"]) == 20
    assert (predictions / "run" / "report.html").exists()
    regions = [path.name for path in sorted(predictions.glob("*/*_region.nii.gz"))]
    assert regions == ["myops_test_201_region.nii.gz", "myops_test_202_region.nii.gz"]
    assert len(list((tmp_path / "submission").glob("myops_test_*_seg.nii.gz"))) == 2


def same_text(printed, shown):
    """Whether a page shows what was printed, numbers to rounding and to another machine's last digits."""
    number = r"-?\d+(?:\.\d+)?"
    values, expected = (np.array(re.findall(number, text), dtype=float) for text in (printed, shown))
    words = [re.sub(number, "#", text).split() for text in (printed, shown)]
    return words[0] == words[1] and np.allclose(values, expected, rtol=0.01, atol=0.02)


@pytest.mark.gate
def test_the_notebook_prints_what_it_shows(tmp_path):
    page = ROOT / "docs" / "tutorial_arrays.md"
    cells = [cell for cell in executed(page.name, tmp_path).cells if cell.cell_type == "code"]
    # What stands below a block as its output.
    shown = re.findall(r"^```python\n.*?^```\n(?:\n```text\n(.*?)^```)?", page.read_text(), flags=re.M | re.S)
    assert len(shown) == len(cells) >= 8
    for cell, text in zip(cells, shown, strict=True):
        printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        assert same_text(printed, text), cell.source
    assert (tmp_path / "healthy.png").exists()
    assert (tmp_path / "study.png").exists()


def test_text_that_differs_is_noticed():
    assert same_text("scar 0.534 g\n", "scar  0.54 g")
    assert not same_text("scar 0.50", "scar 0.54")
    assert not same_text("scar 0.54 1", "scar 0.54")
    assert not same_text("edema 0.54", "scar 0.54")


def test_every_data_set_has_a_page_with_its_command():
    for kind in KINDS:
        if kind not in ("nnunet", "bids", "files", "any"):
            page = (ROOT / "data_manifests" / f"{kind}.md").read_text()
            assert f"mrigmm manifest {kind} " in page
        assert f"| `{kind}` |" in (ROOT / "docs" / "data.md").read_text()


def test_numbers_of_the_table_of_methods_are_those_of_the_page_that_it_names():
    page = ROOT / "docs" / "which_method.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ") and "](" in line]
    assert len(rows) >= 20
    for row in rows:
        measured = "".join(
            (page.parent / file).read_text() for file in set(re.findall(r"\]\(([\w/]+\.md)", row))
        )
        for number in re.findall(r"(?<![\d.])\d*\.\d+", row):
            # .68 is 0.68, too.
            assert re.search(rf"(?<![\d.])0?{re.escape(number)}(?!\d)", measured), f"{number}: {row}"


def site_hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


def test_every_page_has_its_place_in_the_site():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    ours = [str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")]
    assert sorted(listed) == sorted([*ours, *site_hooks().JOINED.values()])


def test_links_become_those_of_the_site():
    links = site_hooks().with_site_links
    assert links("[a](../data_manifests/myops.md)", "data.md") == "[a](data_sets/myops.md)"
    assert links("[a](../README.md#set-up) [b](#c)", "exports.md") == "[a](index.md#set-up) [b](#c)"
    assert links("[a](docs/data.md#manifest)", "contributing.md") == "[a](data.md#manifest)"
    assert links("![a](../images/x.png)", "results/benchmark.md") == "![a](../images/x.png)"
    assert links("[a](https://b.org/c.md)", "data.md") == "[a](https://b.org/c.md)"


def test_the_reference_has_every_command_and_option():
    reference = site_hooks().command_reference()
    assert sorted(re.findall(r"^## `mrigmm (\S+)`", reference, flags=re.MULTILINE)) == sorted(COMMANDS)
    assert "`--save-uncertainty`: Write &lt;id&gt;_entropy.nii.gz" in reference


def test_the_reference_has_every_public_name():
    page = (ROOT / "docs" / "reference_python.md").read_text()
    shown = re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    public = {f"mrigmm.{name}" for name in mrigmm.__all__ if name != "__version__"}
    assert public | {f"mrigmm.mixture.{name}" for name in mrigmm.mixture.__all__} <= set(shown)
    assert "`mrigmm.__version__`" in page


def test_the_site_is_built_without_a_warning_and_asks_for_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material", reason="the group docs is not installed; the gate builds the site")
    run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)], ROOT)
    pages = list(tmp_path.glob("**/*.html"))
    assert len(pages) > 30
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text())
        loaded = [target for tag in tags for target in re.findall(r'\b(?:src|href)="?([^" >]+)', tag)]
        assert [target for target in loaded if "//" in target] == [], page.name
    python = (tmp_path / "reference_python" / "index.html").read_text()
    assert 'id="mrigmm.mixture.GaussianMixture.predict_proba"' in python


def anchors(page):
    """What a link can name in a page: its headings in lower case, with hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if not target.startswith("http"):
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def test_lines_of_prose_are_short():
    """Tables, code and links cannot be wrapped; formulas stand indented."""
    long = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        lines = [line for line in text.splitlines() if len(line) > 100 and "](" not in line]
        long += [f"{page.name}: {line}" for line in lines if not re.match(r"\s*(\||<http)", line)]
    assert long == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("method*.md")), ids=lambda page: page.stem)
def test_code_that_the_methods_name_exists(page):
    """`module.name` is defined or imported in a module of that name, `folder/module.py` is a file."""
    code = defaultdict(str)
    for file in (ROOT / "mrigmm").rglob("*.py"):
        for part in (file, file.parent):
            code[part.parent.name] += f" {part.stem} "
        code[file.parent.name if file.stem == "__init__" else file.stem] += file.read_text()
    named = re.findall(r"`(?:\w+\.)*([a-z]\w+)\.(\w+)`", page.read_text())
    named = [(module, name) for module, name in named if not module.endswith("_ml")]  # keys of metrics
    gone = [f"{module}.{name}" for module, name in named if not re.search(rf"\b{name}\b", code[module])]
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", page.read_text())
    gone += [file for file in files if not (ROOT / "mrigmm" / file).exists() and not (ROOT / file).exists()]
    assert gone == []


SCRIPTS = sorted({script for page in PAGES for script in re.findall(r"scripts/\w+\.py", page.read_text())})


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_that_docs_name_explain_themselves(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # they set it themselves: undone afterwards
    with pytest.raises(SystemExit) as stop:  # in this process, which has loaded torch already
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage:")
