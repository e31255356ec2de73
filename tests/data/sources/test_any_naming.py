"""Folders of NIfTI files as people name them."""

import nibabel as nib
import numpy as np
import pytest

from mrigmm.data.sources.any_naming import read
from mrigmm.data.sources.base import Options, list_folder
from mrigmm.errors import InputError

from ...conftest import oblique_affine

SHAPE = (24, 24, 2)
AFFINE = oblique_affine((2.5, 2.5, 10.0))
Y, X = np.mgrid[:24, :24] - 12
RADIUS = np.hypot(X, Y)[..., None] + np.zeros(2)
IMAGE = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
LV = (RADIUS < 9).astype(np.uint8)
CAVITY_WALL = np.select([RADIUS < 5, RADIUS < 9], [1, 2], 0).astype(np.uint8)
WALL = (CAVITY_WALL == 2).astype(np.uint8)
SCAR = ((X > 5)[..., None] & (CAVITY_WALL == 2)).astype(np.uint8)
LABELS = np.select([RADIUS < 5, RADIUS < 9], [500, 200], 0).astype(np.int16)


@pytest.fixture
def lab(tmp_path):
    """Writes files and reads the folder: `lab({"P01/LGE.nii.gz": IMAGE}, images={...})`."""

    def make(files, *, name="lab", affines=(), **options):
        root = tmp_path / name
        for file, data in files.items():
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, bytes):
                path.write_bytes(data)
            else:
                nib.save(nib.Nifti1Image(data, dict(affines).get(file, AFFINE)), path)
        return read(list_folder(root), Options(**options))

    return make


def images(*names):
    return dict.fromkeys(names, IMAGE)


def found(cohort):
    """Study -> sequences, without the endings of the files."""
    return {
        entry.id: {name: file.split(".nii")[0] for name, file in entry.images.items()}
        for entry in cohort.entries
    }


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (("P01/LGE.nii.gz", "P01/t2w.nii", "P02/LGE.nii.gz", "P02/STIR.nii.gz"), ("P01", "P02")),
        (("P01_LGE.nii.gz", "P01_T2.nii.gz", "P02_lge.nii", "P02_t2.nii"), ("P01", "P02")),
        (("LGE/P01.nii.gz", "T2/P01.nii.gz", "LGE/P02.nii.gz", "T2/P02.nii.gz"), ("P01", "P02")),
        (("images/LGE/P 01.nii", "images/T2/P 01.nii", "images/LGE/Müller.nii"), ("Müller", "P 01")),
        # numbers of series, dates, glued words, other words
        (("a1/301_LGE_sax_20200101.nii.gz", "a1/401_T2_20200101.nii.gz", "b2/7_LGE.nii.gz"), ("a1", "b2")),
        (("P01/301_late_gad/i.nii.gz", "P01/401_T2/i.nii.gz", "P02/5_PSIR/i.nii.gz"), ("P01", "P02")),
        (("P01LGE.nii.gz", "P01T2.nii.gz", "P02LgeSax.nii.gz", "P02_T2.nii.gz"), ("P01", "P02")),
        (("P01_bSSFP.nii.gz", "P01_LGE.nii.gz", "P02_bSSFP.nii.gz"), ("P01", "P02")),
        (("LGE_P01.nii.gz", "T2-P01.nii.gz", "DelayedEnh_P02.nii.gz"), ("P01", "P02")),
        (("P01_LGE_301.nii.gz", "P01_T2_401.nii.gz", "P02_LGE_9.nii.gz", "P02_T2_3.nii.gz"), ("P01", "P02")),
        # centres, visits, and patients whose names are written in two ways
        (
            ("A/P01_LGE.nii.gz", "A/P02_LGE.nii.gz", "B/P03_LGE.nii.gz", "A/P01_T2.nii"),
            ("A_P01", "A_P02", "B_P03"),
        ),
        (
            ("P01/acute/LGE.nii", "P01/late/LGE.nii", "P02/acute/LGE.nii"),
            ("P01_acute", "P01_late", "P02_acute"),
        ),
        (
            ("Pat (1)_LGE.nii.gz", "Pat (1) T2.nii", "Pat (2)_LGE.nii", "[3] a_LGE.nii"),
            ("[3] a", "Pat (1)", "Pat (2)"),
        ),
        (("p01_LGE.nii.gz", "P01_a-T2.nii.gz", "P02_LGE.nii.gz", "p01-A_LGE.nii"), ("p01", "p01-A", "P02")),
    ],
)
def test_studies_are_what_is_left_of_the_names(lab, files, ids):
    cohort = lab(images(*files))
    assert cohort.problems == ()
    assert tuple(entry.id for entry in cohort.entries) == ids
    assert {file for entry in cohort.entries for file in entry.images.values()} == set(files)
    for entry in cohort.entries:
        assert entry.split == "test"
        for name, file in entry.images.items():
            assert (name == "T2") == ("t2" in file.lower() or "STIR" in file)


def test_one_study_without_a_name_has_that_of_its_folder(lab):
    cohort = lab(images("LGE.nii.gz", "c0.nii.gz", "4ch_cine.nii.gz"), name="Maria")
    assert found(cohort) == {"Maria": {"LGE": "LGE", "bSSFP": "c0"}}
    assert cohort.notes == ("left out, long-axis view, by their name: 1 (4ch_cine.nii.gz)",)
    assert [*found(lab(images("301_LGE.nii.gz", "401_T2.nii.gz"), name="Jan"))] == ["Jan"]
    assert [*found(lab(images("101_LGE.nii", "102_LGE.nii", "102_T2.nii"), name="two"))] == ["101", "102"]
    for name, folder in (("lab", "P1/"), ("P 1", "")):
        series = lab(images(f"{folder}LGE sax 1.nii", f"{folder}LGE sax 2.nii"), name=name)
        patient = folder.rstrip("/") or name
        assert [*found(series)] == [f"{patient}_1", f"{patient}_2"]
        assert series.notes == (
            f"{patient}_1, {patient}_2 are taken for studies; where they are series of {patient}, name one: "
            "--images LGE='LGE sax 1.nii'",
        )
    visits = lab(images("P1/a/LGE.nii", "P1/02/LGE.nii", "P2/a/LGE.nii"), name="visits")
    assert [entry.patient for entry in visits.entries] == ["P1", "P1", "P2"]


def test_magnitude_goes_before_psir_and_short_axis_before_others(lab):
    cohort = lab(images("P1/PSIR.nii", "P1/LGE_mag.nii", "P2/PSIR.nii", "P3/LGE_x.nii", "P3/LGE_sax.nii"))
    assert found(cohort) == {
        "P1": {"LGE": "P1/LGE_mag"},
        "P2": {"LGE": "P2/PSIR"},
        "P3": {"LGE": "P3/LGE_sax"},
    }
    assert (
        cohort.notes[0]
        == "left out, LGE beside the one that is taken (magnitude before PSIR): 1 (P1/PSIR.nii)"
    )
    cine = lab(images("P1/cine_ED.nii", "P1/cine_ES.nii", "P2/cine_ES.nii"), name="cine")
    assert found(cine) == {"P1": {"bSSFP": "P1/cine_ED"}, "P2": {"bSSFP": "P2/cine_ES"}}
    assert (
        "bSSFP beside the one that is taken (end-diastole before end-systole): 1 (P1/cine_ES" in cine.notes[0]
    )
    same = lab(images("P1_LGE.nii", "P1_LGE.nii.gz"), name="same")
    assert same.entries[0].images["LGE"] == "P1_LGE.nii.gz"


def test_of_two_readings_the_user_decides(lab):
    files = images(*(f"P{n}/{name}.nii.gz" for n in (1, 2, 3) for name in ("LGE", "T2_STIR", "T2_prep")))
    cohort = lab(files | images("P4/LGE.nii.gz"))
    assert found(cohort) == {"P4": {"LGE": "P4/LGE"}}  # one bad study stops no other
    assert [problem.what for problem in cohort.problems] == ["two files for T2"] * 3
    assert "--images T2='T2_STIR.nii.gz'" in cohort.problems[0].remedy
    asked = []

    def answer(question):
        asked.append(question.answers)
        return [file.endswith("STIR.nii.gz") for file in question.answers].index(True)

    assert len(lab(files, ask=answer).entries) == 4  # that of before, too
    assert len(asked) == 1
    cohort = lab(files, images={"T2": ("*prep*",)})
    assert found(cohort)["P1"]["T2"] == "P1/T2_prep"
    assert "left out, other T2 than --images names: 3" in cohort.notes[0]


def test_patterns_correct_what_names_say(lab):
    files = {**images("P1/01.nii", "P1/02.nii", "P2/01.nii"), "P1/x.nii": LV}
    with pytest.raises(InputError, match="nothing says which sequence"):
        lab(files)
    cohort = lab(files, images={"LGE": ("01*",), "T2": ("P1/02.nii",), "region": ("x.nii",)})
    assert found(cohort) == {"P1": {"LGE": "P1/01", "T2": "P1/02"}, "P2": {"LGE": "P2/01"}}
    assert cohort.entries[0].region == "P1/x.nii"
    fewer = lab(files, images={"LGE": ("P1/01*",), "ignore": ("P2/*", "x.*"), "T1": ("02.*",)})
    assert found(fewer) == {"P1": {"LGE": "P1/01", "T1": "P1/02"}}
    assert fewer.sequences == ("LGE", "T1")
    with pytest.raises(InputError, match=r"T2=\*stir\* fits no file"):
        lab(files, images={"T2": ("*stir*",)})
    with pytest.raises(InputError, match="fits --images of LGE and T2"):
        lab(files, images={"LGE": ("*",), "T2": ("02*",)})


def test_nameless_images_are_asked_for_or_have_the_name_of_the_folder(lab):
    files = images("P1.nii.gz", "P2.nii.gz")
    assert [*found(lab(files, ask=lambda question: question.answers.index("T2")))["P1"]] == ["T2"]
    told = lab(files, name="LGE_2020")
    assert [*found(told)["P2"]] == ["LGE"]
    assert told.matched == ("all images are taken for LGE, which the folder's name says",)


def test_masks_are_known_by_name_values_shape_and_grid(lab):
    shifted = AFFINE.copy()
    shifted[:3, 3] += 30
    masks = {
        "P1/LV_mask.nii.gz": LV,
        "P2/seg.nii.gz": CAVITY_WALL,
        "P3/nobody_knows.nii.gz": LV[::-1],
        "P4/LGE_mask.nii.gz": LV,
        "P5/mask.nii.gz": SCAR,
        "P6/mask.nii.gz": WALL,
        "P7/scar_mask.nii.gz": LV,
        "P8/mask.nii.gz": np.zeros_like(LV),
        "P9/roi.nii.gz": IMAGE,
        "P9/rv_blood.nii.gz": LV,
        "P10/seg.nii.gz": WALL + SCAR,  # 1 = wall, 2 = scar
    }
    flipped = AFFINE.copy()
    flipped[:3, 0], flipped[:3, 3] = -AFFINE[:3, 0], AFFINE[:3, 3] + 23 * AFFINE[:3, 0]
    cohort = lab(
        images(*(f"P{n}/LGE.nii.gz" for n in range(1, 11))) | masks,
        affines={"P4/LGE_mask.nii.gz": shifted, "P3/nobody_knows.nii.gz": flipped},
    )
    assert {entry.id: entry.region for entry in cohort.entries if entry.region} == {
        "P1": "P1/LV_mask.nii.gz",
        "P2": "P2/seg.nii.gz",
        "P3": "P3/nobody_knows.nii.gz",
    }
    told = " ".join(cohort.notes)
    for what, study in (
        ("masks on another grid than LGE.nii.gz's", "P4"),
        ("without the size and shape of a left ventricle", "P5"),
        ("masks of a wall alone", "P6"),
        ("masks of something else than the left ventricle, by their name", "P7"),
        ("masks of something else than the left ventricle, by their name", "P9"),
        ("empty masks", "P8"),
        ("called masks, but they hold no ids", "P9"),
        ("masks of 1 and 2 whose 1 is no cavity within 2", "P10"),
    ):
        assert what in told
        assert study in told.partition(what)[2].partition("left out")[0]
    assert set(cohort.left_out) == {file for file in masks if file[:3] not in ("P1/", "P2/", "P3/")}


def test_masks_find_their_study_and_labels_their_scheme(lab):
    files = images("P1_LGE.nii.gz", "P10_LGE.nii.gz")
    cohort = lab(
        files
        | {"masks/p1_lv_reader2.nii.gz": LV, "masks/P10_LGE_gt.nii.gz": LABELS, "masks/P7_seg.nii.gz": LV}
    )
    assert [entry.region for entry in cohort.entries] == ["masks/p1_lv_reader2.nii.gz", None]
    assert cohort.entries[1].label == "masks/P10_LGE_gt.nii.gz"
    assert cohort.labels["blood"] == (500,)
    assert "masks of no study: 1 (masks/P7_seg.nii.gz)" in cohort.notes[0]
    several = np.where(LABELS == 500, 1, np.where(LABELS == 200, 2, 0)) + 2 * SCAR.astype(int)
    doubtful = lab({"P1_LGE.nii": IMAGE, "P1_gt.nii": several.astype(np.uint8)}, name="doubtful")
    assert doubtful.entries[0].label is None
    assert "mrigmm or emidec (--labels)" in doubtful.notes[0]
    named = lab({}, name="doubtful", labels={"blood": [1], "scar": [4]})
    assert named.entries[0].label == "P1_gt.nii"
    both = lab({"P1_LGE.nii": IMAGE, "P1_lv.nii": LV, "P1_mask.nii": CAVITY_WALL}, name="both")
    assert both.entries[0].region == "P1_mask.nii"


def test_what_cannot_be_read_is_left_out_and_told(lab):
    cohort = lab({**images("P1/LGE.nii.gz", "P2/LGE.nii.gz"), "P1/T2.nii.gz": b"<html>", "P2/mask.nii": b""})
    assert found(cohort) == {"P1": {"LGE": "P1/LGE"}, "P2": {"LGE": "P2/LGE"}}
    assert [(problem.study, problem.severity) for problem in cohort.problems] == [
        ("P1", "error"),
        ("P2", "error"),
    ]
    beside = {"new.nii.gz": b"", "P3_T2.nii": b"", "P4_mask.nii": b""}
    cohort = lab({**images("P1_LGE.nii", "P2_LGE.nii"), **beside}, name="beside")
    assert [problem.study for problem in cohort.problems] == ["P3"]
    assert cohort.notes == ("left out, not readable: 2 (new.nii.gz, P4_mask.nii)",)
    with pytest.raises(InputError, match=r"not a NIfTI file\n  file: .*new\.nii\.gz"):
        lab({"new.nii.gz": b"", "a.txt": b"x"}, name="nothing")
    with pytest.raises(InputError, match="there is no NIfTI file"):
        lab({"a.txt": b"x"}, name="none")


def test_of_series_one_frame_is_taken(lab):
    cine = np.stack([IMAGE, IMAGE + 1], axis=-1)
    cohort = lab({"P1_cine_4d.nii.gz": cine, "P1_LGE.nii.gz": cine})
    (entry,) = cohort.entries
    assert entry.frames == {"LGE": 0}
    assert cohort.notes == ("P1: of the 2 volumes of P1_LGE.nii.gz (LGE) the first is taken",)
    assert cohort.matched == ("P1: of the 2 frames of P1_cine_4d.nii.gz the one at end-diastole is taken",)
