from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from mrigmm.labels import (
    AGREEMENT_COLOURS,
    AUXILIARY_NAMES,
    BACKGROUND_ID,
    PARTS_OF_CLASSES,
    SCHEMES,
    SEGMENTER_CLASSES,
    TISSUES,
    Region,
    allowed_classes,
    class_colours,
    class_ids,
    in_words,
    label_sets,
    nested_regions,
    scheme_ids,
)


def test_ids_of_our_files_are_fixed():
    # Written into every file that was ever made: a change here breaks them.
    assert {name: tissue.id for name, tissue in TISSUES.items()} == {
        "blood": 1,
        "myocardium": 2,
        "edema": 3,
        "scar": 4,
    }
    assert BACKGROUND_ID == 0


@pytest.mark.parametrize(
    ("classes", "ids"),
    [
        (("blood", "myocardium", "edema", "scar"), (1, 2, 3, 4)),
        (("scar", "myocardium"), (4, 2)),
        (("grey", "white", "lesion"), (1, 2, 3)),
        # With one unknown name nothing is known about any.
        (("scar", "fat"), (1, 2)),
    ],
)
def test_class_ids(classes, ids):
    assert class_ids(classes) == dict(zip(classes, ids, strict=True))


def test_colours_of_known_and_other_classes_differ():
    names = ("blood", "myocardium", "edema", "scar", "fat", "stent")
    colours = class_colours(names)
    assert len(set(colours.values())) == len(names)
    assert colours["scar"] == TISSUES["scar"].colour
    # The spare palette starts with the first unknown name, wherever it stands.
    assert class_colours(["fat"])["fat"] == colours["fat"]


# Linear RGB as readers with protanopia, deuteranopia and tritanopia see it (G. M. Machado et al., 2009).
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def seen(colours, vision):
    """CIELAB of colours (N, 3) from 0 to 255."""
    share = np.asarray(colours) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    mixed = np.clip(linear @ VISION[vision].T, 0, 1)
    return rgb2lab(np.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("vision", VISION)
def test_colours_stay_apart_from_each_other_and_from_grey(vision):
    """CIEDE2000, of which 2 is just seen."""
    named = {**class_colours([*TISSUES, "mvo"]), **AGREEMENT_COLOURS}
    lab = dict(zip(named, seen([*named.values()], vision), strict=True))
    for group, least in (((*TISSUES, "mvo"), 10), ((*AGREEMENT_COLOURS, "scar"), 20)):
        for one, other in combinations(group, 2):
            assert deltaE_ciede2000(lab[one], lab[other]) > least, (one, other)
    greys = seen([(g, g, g) for g in range(0, 256, 8)], vision)
    for name in ("blood", "myocardium", "edema", "scar", "mvo", "false positive", "false negative"):
        assert deltaE_ciede2000(lab[name], greys).min() > 7, name


def test_spare_colours_repeat_rather_than_run_out():
    names = [f"class {i}" for i in range(9)]
    colours = class_colours(names)
    assert colours["class 0"] == colours["class 4"] == colours["class 8"]
    assert len({colours[f"class {i}"] for i in range(4)}) == 4


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (
            ("blood", "myocardium", "edema", "scar"),
            {"wall": ("myocardium", "edema", "scar"), "pathology": ("edema", "scar")},
        ),
        # One member alone would repeat the class.
        (("blood", "myocardium", "scar"), {"wall": ("myocardium", "scar")}),
        (("blood", "scar"), {}),
        (("grey", "white"), {}),
    ],
)
def test_nested_regions_need_two_members(classes, expected):
    assert nested_regions(classes) == expected


def test_blood_only_in_the_cavity_and_the_rest_only_in_the_wall():
    rows = allowed_classes(("scar", "blood", "myocardium"))
    assert rows[Region.LV] == (True, True, True)
    assert rows[Region.WALL] == (True, False, True)
    assert rows[Region.CAVITY] == (False, True, False)


def test_no_anatomy_for_other_organs():
    assert allowed_classes(("grey", "blood")) == ((True, True),) * len(Region)


def test_a_cavity_allows_nothing_without_a_blood_class():
    assert not any(allowed_classes(("myocardium", "scar"))[Region.CAVITY])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_schemes_have_unique_ids_and_our_names(scheme):
    ids = [i for name, values in SCHEMES[scheme].items() if name not in PARTS_OF_CLASSES for i in values]
    assert len(ids) == len(set(ids))
    assert SCHEMES[scheme]["background"] == (0,)
    assert set(SCHEMES[scheme]) <= {*TISSUES, *AUXILIARY_NAMES}


def test_published_id_systems():
    assert SCHEMES["myops"]["scar"] == (2221,)
    assert SCHEMES["myops"]["edema"] == (1220,)
    assert SCHEMES["emidec"]["scar"] == (3, 4)  # no-reflow counts as infarct
    assert SCHEMES["emidec"]["mvo"] == SCHEMES["myosaiq"]["mvo"] == (4,)


@pytest.mark.parametrize(
    ("scheme", "ids"),
    [
        ("mrigmm", {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}),
        ("myops", {"blood": 500, "myocardium": 200, "edema": 1220, "scar": 2221}),
        # Edema is wall without infarct there, and 4 the part of the infarct without flow.
        ("emidec", {"blood": 1, "myocardium": 2, "edema": 2, "scar": 3}),
        ("acdc", {"blood": 3, "myocardium": 2, "edema": 2, "scar": 2}),
    ],
)
def test_our_classes_in_the_ids_of_data_sets(scheme, ids):
    assert scheme_ids(scheme, tuple(TISSUES)) == ids
    assert scheme_ids(scheme, ("fat", "blood")) == {"blood": ids["blood"]}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dice", "Dice"),
        ("hd95_mm", "HD95 (mm)"),
        ("nsd_2mm", "NSD at 2 mm"),
        ("volume_error_ml", "volume error (ml)"),
        ("lv_cavity_ml", "LV cavity (ml)"),
        ("mvo_percent_of_lv_mass", "MVO (% of LV mass)"),
        ("area_at_risk_mass_g", "area at risk mass (g)"),
        ("salvage_percent_of_area_at_risk", "salvage (% of area at risk)"),
        ("grey_matter_ml", "grey matter (ml)"),
        ("valve", "valve"),
    ],
)
def test_names_of_metrics_and_quantities_in_words(name, words):
    assert in_words(name) == words


def members(labels):
    """Names of the classes that each id may be of."""
    return {
        i: {name for k, name in enumerate(SEGMENTER_CLASSES) if number >> k & 1}
        for i, number in label_sets(labels).items()
    }


def test_what_labels_do_not_tell_apart_is_open():
    outside = {"background", "rv"}
    assert members(SCHEMES["mrigmm"]) == {
        0: outside,
        1: {"blood"},
        2: {"myocardium"},
        3: {"edema"},
        4: {"scar", "mvo"},
    }
    # Obstruction and right ventricle by number, no edema.
    assert members({**SCHEMES["emidec"], "rv_blood": (5,)}) == {
        0: {"background"},
        1: {"blood"},
        2: {"myocardium", "edema"},
        3: {"scar"},
        4: {"mvo"},
        5: {"rv"},
    }
    wall = {"myocardium", "edema", "scar", "mvo"}
    assert members({"background": (0,), "blood": (1,), "myocardium": (2,)}) == {
        0: outside,
        1: {"blood"},
        2: wall,
    }
    assert members({"background": (0,), "scar": (1,), "edema": (), "ignore": (9,)}) == {
        0: {"background", "blood", "myocardium", "edema", "rv"},
        1: {"scar", "mvo"},
        9: {*SEGMENTER_CLASSES},
    }
