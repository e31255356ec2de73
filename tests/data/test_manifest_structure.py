import pytest

from mrigmm.data.manifest import RegionRule
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from mrigmm.labels import SCHEMES
from tests.data.manifests import GOOD, STUDY, problems, write


def test_what_a_manifest_says(tmp_path):
    listed = {**STUDY, "id": "p2", "image": ["lge.nii", None]}
    named = {"id": "p3", "image": {"T2": "t2.nii"}, "region": {"rule": "nonzero"}}
    cohort = read_manifest(write(tmp_path, {**GOOD, "name": "n", "training": [listed, named]}))
    assert cohort.sequences == ("LGE", "T2")
    assert cohort.labels == {"background": (0,), "blood": (1,), "scar": (3, 4)}
    assert cohort.classes == ("blood", "scar")
    p2, p3 = cohort.split("training")
    assert p2.images == {"LGE": tmp_path / "lge.nii"}
    assert (p2.region, p2.label) == (tmp_path / "r.nii", tmp_path / "l.nii")
    assert p3.images == {"T2": tmp_path / "t2.nii"}
    assert (p3.region, p3.label) == (RegionRule("nonzero"), None)
    assert [study.id for study in cohort.split("all")] == ["p2", "p3", "p1"]


def test_frames_and_patients(tmp_path):
    image = {"LGE": {"file": "lge.nii"}, "T2": {"file": "cine.nii", "frame": 3}}
    listed = ["lge.nii", {"file": "cine.nii", "frame": 0}]
    entries = [{"id": "a", "image": image, "patient": "p1"}, {"id": "b", "image": listed}]
    a, b = read_manifest(write(tmp_path, {**GOOD, "test": entries})).split("test")
    assert a.images == b.images == {"LGE": tmp_path / "lge.nii", "T2": tmp_path / "cine.nii"}
    assert (a.frames, b.frames) == ({"T2": 3}, {"T2": 0})
    assert (a.patient, b.patient) == ("p1", None)


def test_channel_order_is_that_of_the_keys(tmp_path):
    names = [f"s{i}" for i in range(11)]
    modality = {str(i): names[i] for i in (10, *range(10))}
    study = {"id": "p1", "image": [f"{name}.nii" for name in names]}
    cohort = read_manifest(write(tmp_path, {"modality": modality, "test": [study]}))
    assert cohort.sequences == tuple(names)  # not "10" before "2"
    assert cohort.split("test")[0].images["s10"] == tmp_path / "s10.nii"


def test_one_sequence_may_be_a_plain_path(tmp_path):
    content = {"modality": {"0": "LGE"}, "test": [{"id": "p1", "image": "a.nii"}]}
    assert read_manifest(write(tmp_path, content)).split("test")[0].images == {"LGE": tmp_path / "a.nii"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_label_schemes_by_name(tmp_path, scheme):
    cohort = read_manifest(write(tmp_path, {**GOOD, "labels": scheme}))
    assert cohort.labels == SCHEMES[scheme]
    assert "background" not in cohort.classes
    assert "rv_blood" not in cohort.classes


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"blood": 1}, {"background": (0,), "blood": (1,)}),
        # Another id of the background does not make 0 unknown.
        ({"blood": 1, "background": [600]}, {"background": (0, 600), "blood": (1,)}),
        ({"background": 5}, {"background": (0, 5)}),
        ({"blood": 1, "edema": []}, {"background": (0,), "blood": (1,), "edema": ()}),
    ],
)
def test_zero_is_the_background(tmp_path, labels, expected):
    assert read_manifest(write(tmp_path, {**GOOD, "labels": labels})).labels == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": {}}, "unknown key 'modalities'"),
        ({"modality": None}, "'modality' must name the sequences"),
        ({"modality": {}}, "'modality' must name the sequences"),
        ({"modality": ["LGE"]}, "'modality' must name the sequences"),
        ({"modality": {"1": "LGE", "2": "T2"}}, "must count from 0"),
        ({"modality": {"0": "LGE", "1": ""}}, "a sequence name must be"),
        ({"modality": {"0": "LGE", "1": 5}}, "a sequence name must be"),
        ({"modality": {"0": "LGE", "1": "T\x1b[31m"}}, "a sequence name must be"),
        ({"modality": {"0": "LGE", "1": "\ud800"}}, "a sequence name must be"),
        ({"modality": {"0": "LGE", "1": "LGE"}}, "stands twice in 'modality'"),
        ({"labels": "myopps"}, "unknown label scheme 'myopps'"),
        ({"labels": [1, 2]}, "'labels' must map"),
        ({"labels": {"blood": "1"}}, "label 'blood' has no valid id"),
        ({"labels": {"blood": 1.0}}, "label 'blood' has no valid id"),
        ({"labels": {"blood": True}}, "label 'blood' has no valid id"),
        ({"labels": {"blood": [1, None]}}, "label 'blood' has no valid id"),
        ({"labels": {"blood": 2**31}}, "label 'blood' has no valid id"),
        ({"labels": {" ": 1}}, "a class name must be"),
        ({"labels": {"a\nb": 1}}, "a class name must be"),
        ({"labels": {"blood": 1, "scar": 1}}, "the label id 1 is given more than once"),
        ({"labels": {"blood": 0}}, "the label id 0 is the background"),
        ({"labels": {f"c{i}": i for i in range(1, 257)}}, "more classes than a label map can hold"),
        ({"test": []}, "the manifest names no study"),
        ({"test": None}, "the manifest names no study"),
        ({"test": {"id": "p1"}}, "'test' must be a list"),
        ({"test": ["p1"]}, "test[0] must be an object"),
        ({"test": [{**STUDY, "id": None}]}, "test[0]: a study id must be"),
        ({"test": [{**STUDY, "id": 7}]}, "test[0]: a study id must be"),
        ({"test": [STUDY, {**STUDY, "id": "../p"}]}, "test[1]: a study id becomes a file name"),
        ({"test": [STUDY, STUDY]}, "the study id stands twice"),
        ({"test": [STUDY, {**STUDY, "id": "P1"}]}, "the study id stands twice"),
        ({"training": [STUDY]}, "the study id stands twice"),
        ({"test": [{**STUDY, "regions": "r.nii"}]}, "unknown key 'regions'"),
        ({"test": [{**STUDY, "image": ["a.nii"]}]}, "the list of images does not fit"),
        ({"test": [{**STUDY, "image": 5}]}, "'image' must name the files"),
        ({"test": [{"id": "p1"}]}, "'image' must name the files"),
        ({"test": [{**STUDY, "image": {"lge": "a.nii"}}]}, "unknown sequence name 'lge'"),
        ({"test": [{**STUDY, "image": [None, None]}]}, "the study has no image"),
        ({"test": [{**STUDY, "image": {}}]}, "the study has no image"),
        ({"test": [{**STUDY, "image": {"LGE": {"a": 1}}}]}, "LGE: a path must be"),
        ({"test": [{**STUDY, "image": {"LGE": {"file": 1}}}]}, "LGE: a path must be"),
        ({"test": [{**STUDY, "image": {"LGE": {"file": "../a"}}}]}, "the path leads out"),
        ({"test": [{**STUDY, "image": {"LGE": {"file": "a", "fram": 1}}}]}, "LGE: unknown key 'fram'"),
        ({"test": [{**STUDY, "image": {"LGE": {"file": "a", "frame": -1}}}]}, "LGE: a frame must be"),
        ({"test": [{**STUDY, "image": {"LGE": {"file": "a", "frame": 1.0}}}]}, "LGE: a frame must be"),
        ({"test": [{**STUDY, "image": {"LGE": {"file": "a", "frame": True}}}]}, "LGE: a frame must be"),
        ({"test": [{**STUDY, "patient": 7}]}, "'patient' must be"),
        ({"test": [{**STUDY, "patient": " "}]}, "'patient' must be"),
        ({"test": [{**STUDY, "label": {"rule": "lv"}}]}, "label: a path must be"),
        ({"test": [{**STUDY, "label": ""}]}, "label: a path must be"),
        ({"test": [{**STUDY, "region": True}]}, "region: a path must be"),
        ({"test": [{**STUDY, "region": {}}]}, "unknown region rule"),
        ({"test": [{**STUDY, "region": {"rule": "heart"}}]}, "unknown region rule"),
        ({"test": [{**STUDY, "region": {"rule": "lv", "x": 1}}]}, "unknown region rule"),
        ({"test": [{**STUDY, "label": "a\x00b"}]}, "label: a path must be"),
        ({"test": [{**STUDY, "label": "\ud800.nii"}]}, "label: the path cannot be resolved"),
        ({"test": [{**STUDY, "label": "../l.nii"}]}, "the path leads out"),
        ({"test": [{**STUDY, "label": "a/../../l.nii"}]}, "the path leads out"),
        ({"test": [{**STUDY, "label": "/etc/passwd"}]}, "the path leads out"),
    ],
)
def test_structural_errors(tmp_path, change, message):
    found = problems(tmp_path, {**GOOD, **change})
    # This one, and nothing that follows from it.
    assert [message in problem.what for problem in found] == [True]
    assert found[0].file == str(tmp_path / "manifest.json")


def test_all_errors_are_reported_at_once(tmp_path):
    found = problems(
        tmp_path,
        {
            "modality": {"0": "LGE"},
            "labels": {"blood": "x"},
            "tset": [],
            "training": [
                {"id": "a", "image": [None]},
                {"id": "b", "image": {"LGX": "x.nii"}, "region": {"rule": "no"}, "foo": 1},
                {"id": "", "image": ["x.nii"]},
                {"id": "c", "image": ["../x.nii"], "label": 5},
            ],
        },
    )
    assert [(problem.study, problem.what) for problem in found] == [
        (None, "unknown key 'tset'"),
        (None, "label 'blood' has no valid id"),
        ("a", "the study has no image"),
        ("b", "unknown key 'foo'"),
        ("b", "unknown sequence name 'LGX'"),
        ("b", "unknown region rule"),
        (None, "training[2]: a study id must be a non-empty text"),
        ("c", "the path leads out of the data folder"),
        ("c", "label: a path must be a non-empty text"),
    ]
    assert found[0].remedy == "did you mean test or numTest?"
    assert found[4].remedy == "did you mean LGE?"


def test_links_may_not_lead_out(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.nii").write_text("x")
    (inside / "real.nii").write_text("x")
    (inside / "l.nii").symlink_to(tmp_path / "secret.nii")
    (found,) = problems(inside, GOOD)
    assert found.what == "the path leads out of the data folder"
    (inside / "l.nii").unlink()
    (inside / "l.nii").symlink_to(inside / "real.nii")
    assert read_manifest(write(inside, GOOD)).split("test")[0].label == inside / "l.nii"


def test_mvo_may_share_ids_with_scar_but_not_with_the_background(workshop):
    labels = {"background": 0, "myocardium": 2, "scar": [3, 4], "mvo": 4}
    cohort = read_manifest(workshop.manifest(labels=labels))
    assert cohort.labels["mvo"] == (4,)
    assert cohort.classes == ("myocardium", "scar")
    with pytest.raises(InputError, match="cannot be 'mvo'"):
        read_manifest(workshop.manifest(labels={**labels, "mvo": 0}))


def test_scribbles(tmp_path):
    entries = [{**STUDY, "scribbles": "hints.nii"}, {**STUDY, "id": "p2"}]
    first, second = read_manifest(write(tmp_path, {**GOOD, "test": entries})).split("test")
    assert first.scribbles == tmp_path / "hints.nii"
    assert second.scribbles is None
    (problem,) = problems(tmp_path, {**GOOD, "test": [{**STUDY, "scribbles": "../hints.nii"}]})
    assert "the path leads out" in problem.what
