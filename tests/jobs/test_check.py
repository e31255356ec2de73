import json
import os

import numpy as np
import pytest
import torch

import mrigmm
import mrigmm.jobs.check as job
from mrigmm.errors import InputError
from mrigmm.mixture.threads import all_threads
from mrigmm.phantom import simulate_cohort

from ..conftest import PATIENT, SEQUENCES, SHAPE, intensities, oblique_affine, ventricle

AFFINE = PATIENT


FOUND = (
    "the region is the program's own, found by the pretrained networks and not given (predict writes it as "
    "_region.nii.gz)"
)


def patient(workshop, name="s1", number=0, **options):
    """A study without any finding, with images and a region of its own."""
    entry = workshop.study(name, affine=AFFINE, seed=number, **options)
    region = (ventricle() > 0).astype(np.uint8)
    region[tuple(np.argwhere(region)[number])] = 0
    workshop.volume(f"{name}_region.nii.gz", region, AFFINE)
    return entry


def found(result):
    return [(p.study, p.severity, p.what) for p in result.problems]


def test_a_good_cohort(cohort):
    result = mrigmm.check(cohort)
    assert result.problems == ()
    assert len(result.done) == 4
    assert not result.failed


def test_every_problem_of_every_study(workshop):
    names = ("good", "two files", "grids", "empty", "label", "part", "none")
    entries = [patient(workshop, name, number) for number, name in enumerate(names)]
    (workshop.folder / "two files_T2.nii.gz").write_bytes(b"")
    (workshop.folder / "two files_bSSFP.nii.gz").unlink()
    workshop.volume("two files_label.nii.gz", ventricle() * 2, AFFINE)
    workshop.volume(
        "grids_bSSFP.nii.gz", np.ones(SHAPE), oblique_affine((4.5, 4.5, 10), origin_mm=(500, 0, 0))
    )
    workshop.volume("empty_region.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    workshop.volume("label_label.nii.gz", ventricle() + 0.5, AFFINE)
    entries[5]["image"] = {"LGE": entries[5]["image"]["LGE"]}
    entries[6]["region"] = None
    result = mrigmm.check(workshop.manifest(entries))
    assert found(result) == [
        (None, "note", "bSSFP lies on another grid than the reference sequence and is resampled"),
        ("two files", "error", "the T2 file is not a NIfTI file"),
        ("two files", "error", "the bSSFP file does not exist"),
        ("two files", "error", "the label map has an unknown class id"),
        ("grids", "error", "bSSFP does not show the region: its grid lies elsewhere"),
        ("empty", "error", "the region is empty"),
        ("label", "error", "the label map has values that are no whole numbers"),
        ("part", "warning", "edema cannot be told reliably without T2"),
        ("part", "note", "no T2"),
        ("part", "note", "no bSSFP"),
        ("none", "note", f"{FOUND}: look at it"),
    ]
    assert result.done == ("good", "part", "none")
    assert result.failed


def test_a_bad_file_does_not_hide_what_is_wrong_with_the_others(workshop):
    entry = patient(workshop)
    (workshop.folder / "s1_T2.nii.gz").write_bytes(b"")
    workshop.volume("s1_region.nii.gz", np.ones((4, 4, 4), np.uint8))
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [
        ("s1", "error", "the T2 file is not a NIfTI file"),
        ("s1", "error", "the region map is not on the grid of the reference sequence"),
    ]


def test_without_its_reference_sequence_a_study_is_not_judged_by_another(workshop):
    entry = patient(workshop)
    (workshop.folder / "s1_LGE.nii.gz").write_bytes(b"")
    affine = oblique_affine((2.0, 2.0, 10.0))  # on a grid of its own, which is fine
    workshop.volume("s1_T2.nii.gz", np.ones((30, 30, 3), np.float32), affine)
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [("s1", "error", "the LGE file is not a NIfTI file")]


def test_structural_errors_are_problems_too(workshop):
    result = mrigmm.check(workshop.manifest([patient(workshop)], tset=[], labels={"blood": "x"}))
    assert [what for _, _, what in found(result)] == ["unknown key 'tset'", "label 'blood' has no valid id"]
    assert result.done == ()


def test_what_prediction_would_say_about_the_cohort(workshop):
    entry = patient(workshop)
    entry["image"] = {"DE": entry["image"]["LGE"]}
    result = mrigmm.check(workshop.manifest([entry], modality={"0": "DE"}))
    assert [f for f in found(result) if f[1] == "error"] == [(None, "error", "unknown sequence name 'DE'")]
    assert result.problems[0].remedy == "name it LGE"


def test_a_region_from_the_label_is_worth_a_note(workshop):
    entry = {**patient(workshop), "region": {"rule": "lv"}}
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [("s1", "note", "the region comes from the reference label")]
    assert result.done == ("s1",)


def test_nothing_to_check(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        mrigmm.check(tmp_path / "no.json")


def test_the_reference_label_as_region_is_worth_the_same_note(workshop):
    entry = patient(workshop)
    workshop.volume(entry["label"], np.minimum(ventricle(), 2), AFFINE)
    result = mrigmm.check(workshop.manifest([{**entry, "region": entry["label"]}]))
    assert ("s1", "note", "the region comes from the reference label") in found(result)


# --- Findings about readable data --------------------------------------------------------------


def only_finding(workshop, *entries, **changes):
    """The one problem of a cohort."""
    (problem,) = mrigmm.check(workshop.manifest([*entries], **changes)).problems
    return problem


def put(workshop, name, sequence, data, affine=AFFINE):
    return workshop.volume(f"{name}_{sequence}.nii.gz", np.asarray(data, dtype=np.float32), affine)


@pytest.mark.parametrize("region", ["lv", "cavity-wall"])
def test_a_study_without_findings(workshop, region):
    entry = workshop.study(affine=AFFINE, region=region)
    assert mrigmm.check(workshop.manifest([entry])).problems == ()


def test_a_ventricle_of_a_mouse(workshop):
    problem = only_finding(workshop, workshop.study())
    assert (problem.study, problem.severity) == ("s1", "warning")
    assert problem.what == "no adult left ventricle has this size"
    mm2 = int((ventricle()[..., 0] > 0).sum()) * 1.44  # 1.2 x 1.2 mm
    assert problem.got == f"diameter {2 * np.sqrt(mm2 / np.pi):.3g} mm"


def test_other_organs_have_other_sizes(workshop):
    labels = {"background": 0, "grey": 1, "white": [2, 3, 4]}
    assert mrigmm.check(workshop.manifest([workshop.study()], labels=labels)).problems == ()


def test_negative_lge_is_a_note_and_saturation_a_warning(workshop):
    entry = patient(workshop)
    put(workshop, "s1", "LGE", intensities(ventricle(), "LGE") - 100)
    problem = only_finding(workshop, entry)
    assert (problem.severity, problem.what) == ("note", "LGE has negative intensities")
    assert problem.file == str(workshop.folder / "s1_LGE.nii.gz")
    put(workshop, "s1", "LGE", np.minimum(intensities(ventricle(), "LGE"), 200))
    assert only_finding(workshop, entry).what == "LGE is saturated"


def test_outside_the_region_intensities_do_not_matter(workshop):
    entry = patient(workshop)
    lge = intensities(ventricle(), "LGE")
    put(workshop, "s1", "LGE", np.where(ventricle() > 0, lge, -500))
    assert mrigmm.check(workshop.manifest([entry])).problems == ()


def test_a_sheared_sequence_is_a_note(workshop):
    entry = patient(workshop)
    affine = AFFINE.copy()
    affine[:3, 2] += 0.5 * affine[:3, 0]  # 2.25 mm over 10 mm: 12.7 degrees
    for role in ("LGE", "T2", "bSSFP"):
        put(workshop, "s1", role, intensities(ventricle(), role), affine)
    for role in ("region", "label"):
        workshop.volume(f"s1_{role}.nii.gz", (ventricle() > 0).astype(np.uint8), affine)
    notes = mrigmm.check(workshop.manifest([entry])).problems
    assert [(p.severity, p.what) for p in notes] == [
        ("note", f"{name} has a sheared grid") for name in SEQUENCES
    ]


def test_another_view(workshop):
    """T2 as three sagittal slices through the same place."""
    entry = patient(workshop)
    middle = AFFINE @ [7.5, 6.5, 1, 1]
    affine = oblique_affine((4.5, 4.5, 10.0), order=(1, 2, 0))
    affine[:3, 3] = 0
    affine[:3, 3] = middle[:3] - (affine @ [7.5, 6.5, 1, 1])[:3]
    put(workshop, "s1", "T2", intensities(ventricle(), "T2"), affine)
    result = mrigmm.check(workshop.manifest([entry]))
    assert ("s1", "warning", "T2 shows another view than LGE") in found(result)


def test_swapped_sequences(workshop):
    entry = patient(workshop)
    image = entry["image"]
    image["T2"], image["bSSFP"] = image["bSSFP"], image["T2"]
    result = mrigmm.check(workshop.manifest([entry]))
    assert found(result) == [
        ("s1", "warning", "T2 does not look like T2"),
        ("s1", "warning", "bSSFP does not look like bSSFP"),
    ]
    assert result.done == ("s1",)


def test_a_region_that_touches_the_border(workshop):
    entry = patient(workshop)
    region = (ventricle() > 0).astype(np.uint8)
    region[7, :, 1] = 1
    workshop.volume("s1_region.nii.gz", region, AFFINE)
    problem = only_finding(workshop, entry)
    assert (problem.what, problem.got) == ("the region touches the border of the image", "1 of 3 slices")


def test_a_region_where_no_sequence_shows_a_heart(workshop):
    entry = patient(workshop)
    random = np.random.default_rng(5)
    for name in ("T2", "bSSFP"):
        put(workshop, "s1", name, random.normal(100, 10, SHAPE))
    problem = only_finding(workshop, entry)
    assert (problem.study, problem.severity) == ("s1", "warning")
    assert problem.what == "the region map does not seem to lie on the heart"


def test_the_same_file_for_two_sequences_and_in_two_studies(workshop):
    entries = [patient(workshop, name, number) for number, name in enumerate(("a", "b", "c"))]
    entries[0]["image"]["T2"] = entries[0]["image"]["bSSFP"]
    put(workshop, "c", "LGE", intensities(ventricle(), "LGE", seed=1))  # b's, saved again
    manifest = workshop.manifest(entries[2:], training=entries[:2])
    result = mrigmm.check(manifest)
    assert found(result) == [
        ("a", "warning", "T2 does not look like T2"),
        ("a", "error", "T2 and bSSFP are the same image"),
        ("c", "error", "LGE is the same as LGE of another study"),
    ]
    assert result.done == ("b",)


def test_a_patient_in_two_splits(workshop):
    a, b = ({**patient(workshop, name, i), "patient": "p7"} for i, name in enumerate(("a", "b")))
    problem = only_finding(workshop, a, training=[b])
    assert (problem.study, problem.severity) == ("a", "error")
    assert problem.got == "b in 'training', this one in 'test'"


def test_a_cine_says_which_frame_was_taken(workshop):
    entry = patient(workshop)
    cine = np.stack([intensities(ventricle(), "bSSFP"), intensities(ventricle(), "T2")], axis=-1)
    put(workshop, "s1", "bSSFP", cine)
    problem = only_finding(workshop, entry)
    assert problem.what == "bSSFP: frame 0 was taken as end-diastole (first frame: 0)"
    assert problem.severity == "note"
    entry["image"]["bSSFP"] = {"file": entry["image"]["bSSFP"], "frame": 0}
    assert mrigmm.check(workshop.manifest([entry])).problems == ()
    entry["image"]["bSSFP"]["frame"] = 2
    assert only_finding(workshop, entry).what == "bSSFP has no frame 2"


def test_a_cine_beside_a_bad_region_says_it_once(workshop):
    entry = patient(workshop)
    put(workshop, "s1", "bSSFP", np.ones((*SHAPE, 2)))
    workshop.volume("s1_region.nii.gz", ventricle() * 9, AFFINE)
    assert only_finding(workshop, entry).what == "the region map has an unknown class id"


# --- Workers and JSON --------------------------------------------------------------------------


def test_an_unforeseen_error_names_the_study_and_stops_no_other(workshop, monkeypatch):
    entries = [patient(workshop, name, number) for number, name in enumerate(("a", "b", "c"))]
    inspect = job._inspect

    def fails(study, *rest):
        if study.id == "b":
            raise RuntimeError("boom")
        return inspect(study, *rest)

    monkeypatch.setattr(job, "_inspect", fails)
    result = mrigmm.check(workshop.manifest(entries))
    assert found(result) == [("b", "error", "the study could not be checked: unexpected error")]
    assert result.problems[0].got == "RuntimeError: boom"
    assert result.done == ("a", "c")


def test_the_networks_of_a_check_take_one_thread(workshop, monkeypatch):
    threads = []

    def inspect(*_):
        with all_threads():
            threads.append(torch.get_num_threads())
        raise ValueError

    monkeypatch.setattr(job, "_inspect", inspect)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        mrigmm.check(workshop.manifest())
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


@pytest.mark.slow
def test_workers_find_the_same_in_the_same_order(workshop):
    names = ("a", "b", "c", "d", "e")
    entries = [patient(workshop, name, number) for number, name in enumerate(names)]
    (workshop.folder / "b_bSSFP.nii.gz").unlink()
    workshop.volume("d_region.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    put(workshop, "e", "LGE", intensities(ventricle(), "LGE") - 100)
    manifest = workshop.manifest(entries)
    alone, seen = mrigmm.check(manifest), []

    def track(items, description):
        seen.append(len(items))
        return items

    assert mrigmm.check(manifest, num_workers=2, track=track) == alone
    assert seen == [5]
    assert [problem.study for problem in alone.problems] == ["b", "d", "e"]


@pytest.mark.slow
def test_a_worker_that_dies_names_the_studies_without_a_result(workshop):
    entries = [patient(workshop, name, number) for number, name in enumerate(("a", "b"))]
    studies = job.read_manifest(workshop.manifest(entries)).split("all")
    results = list(job._from_workers(_Dying(), studies, 1))
    assert [result.problems[0].study for result in results[1:]] == ["b"]
    assert results[1].problems[0].what == "the study could not be checked: a worker process ended"


class _Dying:
    """Checks a study, or ends its process; a module-level class, for it travels to another process."""

    def __call__(self, study):
        if study.id == "b":
            os._exit(1)
        return job._Findings(())


def test_json_has_stable_keys(cli, workshop):
    entries = [patient(workshop, name, number) for number, name in enumerate(("a", "b"))]
    (workshop.folder / "a_bSSFP.nii.gz").unlink()
    put(workshop, "b", "LGE", intensities(ventricle(), "LGE") - 100)
    manifest = workshop.manifest(entries)
    result = cli("check", manifest, "--json")
    assert result.code == 1
    content = json.loads(result.out)
    assert list(content) == [
        "manifest", "n_errors", "n_warnings", "n_notes", "studies_without_errors", "problems",
    ]  # fmt: skip
    assert content["manifest"] == str(manifest)
    assert [content[f"n_{name}"] for name in ("errors", "warnings", "notes")] == [1, 0, 1]
    assert content["studies_without_errors"] == ["b"]
    assert [p["severity"] for p in content["problems"]] == ["error", "note"]
    for problem in content["problems"]:
        assert list(problem) == ["what", "study", "file", "expected", "got", "remedy", "severity"]


def test_warnings_alone_are_no_failure(cli, workshop):
    manifest = workshop.manifest([patient(workshop, sequences=("LGE", "bSSFP"))])
    result = cli("check", manifest)
    assert result.code == 0
    assert result.out.endswith("1 study without errors\n")
    content = json.loads(cli("check", manifest, "--json").out)
    assert (content["n_warnings"], content["n_notes"]) == (1, 1)  # edema, and the note: no T2


def test_a_folder_is_no_manifest(cli, workshop):
    result = cli("check", workshop.folder)
    assert (result.code, result.out) == (2, "")
    assert "got: a folder" in result.err
    assert f"mrigmm manifest files {workshop.folder} -o {workshop.folder}/manifest.json" in result.err


def test_names_that_mean_ours_are_asked_about(workshop):
    labels = {"background": 0, "lv": 1, "myo": 2, "oedema": 3, "necrosis": 4}
    entry = {**workshop.study(), "image": {"LGE": "s1_LGE.nii.gz", "ssfp": "s1_bSSFP.nii.gz"}}
    manifest = workshop.manifest([entry], labels=labels, modality={"0": "LGE", "1": "ssfp"})
    asked = [p for p in mrigmm.check(manifest).problems if "did you mean" in p.what]
    assert [p.what.rsplit(" ", 1)[1] for p in asked] == ["blood?", "myocardium?", "edema?", "scar?", "bSSFP?"]
    assert {(p.severity, p.study, p.file) for p in asked} == {("warning", None, str(manifest))}


def test_what_several_studies_lack_is_one_row(cli, workshop):
    names = [f"p{number}" for number in range(7)]
    entries = [patient(workshop, name, number) for number, name in enumerate(names)]
    for entry in entries:
        entry["region"] = {"rule": "lv"}
    manifest = workshop.manifest(entries)
    what = "the region comes from the reference label"
    assert cli("check", manifest).out.count(what) == 1
    assert "p0, p1, p2, p3, p4, ... (7 in all)" in cli("check", manifest).out
    assert cli("check", manifest, "--verbose").out.count(what) == 7
    said = json.loads(cli("check", manifest, "--json").out)["problems"]
    assert sum(problem["what"] == what for problem in said) == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "seed", "region"), [("small", 201, "cavity-wall"), ("hard-acquisition", 202, "lv")]
)
def test_simulated_patients_raise_no_false_alarm(tmp_path, preset, seed, region):
    manifest = simulate_cohort(tmp_path / "c", n_studies=6, seed=seed, preset=preset, region=region)
    said = {p.what for p in mrigmm.check(manifest).problems if p.severity != "note"}
    assert {what for what in said if not what.startswith(("no ", "edema cannot"))} == set()
