"""Labelled slices as the segmenter sees them."""

import numpy as np
import pytest

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.labels import ANY_CLASS, Region, class_set
from mrigmm.networks.segmenter import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL
from mrigmm.phantom.generator import Code
from mrigmm.training.labelled import OF_CODE, LabelledStudy, draw_labelled, whole_view
from tests.conftest import CONTRAST, SEQUENCES, ventricle

SETS = {0: ("background", "rv"), 1: ("blood",), 2: ("myocardium",), 3: ("edema",), 4: ("scar", "mvo")}


def labelled(*, present=(True, True, True), given=GIVEN_WALL):
    """The hand-made ventricle in pixels of 4.5 mm: 16 x 14, three slices."""
    label = ventricle().transpose(2, 0, 1)
    image = np.stack([np.array(CONTRAST[name], np.float32)[label] for name in SEQUENCES], axis=1)
    region = np.where(label == 1, Region.CAVITY, np.where(label > 0, Region.WALL, 0)).astype(np.uint8)
    sets = np.array([class_set(SETS[i]) for i in range(5)], np.uint8)[label]
    return LabelledStudy(
        "s",
        image,
        np.array(present),
        sets,
        region if given else np.zeros_like(region),
        given,
        (4.5, 4.5),
        (7.5, 6.5),
    )


def test_codes_of_the_simulation_are_sets():
    assert int(OF_CODE[Code.EDEMA]) == class_set(("edema",))
    assert int(OF_CODE[Code.OUTSIDE]) == class_set(("background", "rv"))
    assert int(OF_CODE[Code.UNKNOWN]) == ANY_CLASS


def test_a_study_as_it_is_lies_in_the_middle_of_the_square():
    seen = whole_view(labelled(), GIVEN_WALL, 32, 4.5)
    label = ventricle().transpose(2, 0, 1)
    assert seen.x.image.shape == (3, 3, 32, 32)
    inside = seen.sets.numpy()[:, 8:24, 9:23]  # 16 x 14 pixels in the middle of 32 x 32
    assert (inside == labelled().sets).all()
    beyond = seen.sets.numpy().copy()
    beyond[:, 8:24, 9:23] = ANY_CLASS
    assert (beyond == ANY_CLASS).all()
    assert float(seen.x.image[:, :, :8].abs().max()) == 0  # nothing was acquired there
    lge = seen.x.image[:, 0, 8:24, 9:23].numpy()[label > 0]
    assert lge.mean() == pytest.approx(0, abs=1e-5)
    assert lge.std() == pytest.approx(1, abs=1e-4)


def test_without_t2_edema_is_open():
    seen = whole_view(labelled(present=(True, False, True)), GIVEN_NOTHING, 32, 4.5)
    normal_or_edema = class_set(("myocardium", "edema"))
    label = ventricle().transpose(2, 0, 1)
    inside = seen.sets.numpy()[:, 8:24, 9:23]
    assert (inside[(label == 2) | (label == 3)] == normal_or_edema).all()
    assert (inside[label == 4] == class_set(("scar", "mvo"))).all()
    assert not seen.x.present[:, 1].any()
    assert float(seen.x.image[:, 1].abs().max()) == 0
    assert int(seen.x.region.max()) == 0


def test_drawn_slices_depend_on_the_random_numbers_alone_and_keep_to_what_there_is():
    ranges = GeneratorRanges.model_validate({"matrix": 32, "spacing_mm": 4.0})
    study = labelled(present=(True, False, False), given=GIVEN_VENTRICLE)
    kinds = set()
    for seed in range(12):
        one, same = (draw_labelled(study, ranges, 2, np.random.default_rng(seed)) for _ in range(2))
        assert (one.x.image == same.x.image).all()
        assert one.x.image.shape == (2, 3, 32, 32)
        assert one.x.present.tolist() == [[True, False, False]] * 2
        kinds.add(int(one.x.given[0]))
        assert set(np.unique(one.x.region)) <= {Region.OUTSIDE, Region.LV}
        # What is given never contradicts what is known.
        lv, sets = one.x.region.numpy() > 0, one.sets.numpy()
        assert ((sets[lv] & class_set(("blood", "myocardium", "edema", "scar", "mvo"))) > 0).all()
        assert one.x.image.isfinite().all()
    assert kinds == {GIVEN_NOTHING, GIVEN_VENTRICLE}
