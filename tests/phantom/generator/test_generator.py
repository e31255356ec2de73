"""Training slices: what they show, and what is known of them."""

import numpy as np
import pytest
from PIL import Image

from mrigmm.config_pretrain import GeneratorRanges
from mrigmm.errors import InputError
from mrigmm.labels import SEGMENTER_CLASSES, Region
from mrigmm.phantom.generator import Code, allowed_table, draw_examples, draw_whole_slices, read_backgrounds
from mrigmm.phantom.generator.backgrounds import random_contrast
from mrigmm.phantom.generator.examples import GIVEN_NOTHING, GIVEN_VENTRICLE, GIVEN_WALL, changed_slices
from mrigmm.phantom.generator.fields import smooth_fields
from mrigmm.phantom.generator.scanner import scan
from mrigmm.phantom.generator.slices import _as_acquired, draw_slices

LV = (Code.BLOOD, Code.MYOCARDIUM, Code.EDEMA, Code.SCAR, Code.MVO)
SMALL = GeneratorRanges(matrix=64, spacing_mm=2.0)
WALL = (Code.MYOCARDIUM, Code.EDEMA, Code.SCAR, Code.MVO, Code.NO_SCAR)


@pytest.fixture(scope="module")
def backgrounds():
    return read_backgrounds()


def many(ranges, backgrounds, n=25):
    return [draw_examples(ranges, backgrounds, np.random.default_rng([7, k])) for k in range(n)]


@pytest.fixture(scope="module")
def drawn(backgrounds):
    return many(SMALL, backgrounds)


def test_codes_are_classes_and_sets_of_classes():
    table = allowed_table()
    assert table.shape == (len(Code), len(SEGMENTER_CLASSES))
    for k, name in enumerate(SEGMENTER_CLASSES):
        assert Code(k).name.lower() == name
        assert table[k].tolist() == [j == k for j in range(len(SEGMENTER_CLASSES))]

    def named(code):
        return [name for name, flag in zip(SEGMENTER_CLASSES, table[code], strict=True) if flag]

    assert named(Code.OUTSIDE) == ["background", "rv"]
    assert named(Code.NO_SCAR) == ["myocardium", "edema"]
    assert "blood" not in named(Code.NO_BLOOD)
    assert len(named(Code.NO_BLOOD)) == 6
    assert len(named(Code.UNKNOWN)) == 7


def test_the_same_random_numbers_draw_the_same_slices(backgrounds):
    one, two = (draw_examples(SMALL, backgrounds, np.random.default_rng(5)) for _ in range(2))
    for name in ("image", "present", "region", "given", "codes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_examples_hold_what_they_say(drawn):
    for e in drawn:
        n = len(e.codes)
        assert e.image.shape == (n, 3, 64, 64)
        assert e.image.dtype == np.float32
        assert np.isfinite(e.image).all()
        assert e.present.any(axis=1).all()
        assert not e.image[~e.present].any()
        assert (e.region > 0).any() == (e.given[0] != GIVEN_NOTHING and (e.region > 0).any())
        if e.given[0] == GIVEN_VENTRICLE:
            assert set(np.unique(e.region)) <= {Region.OUTSIDE, Region.LV}
        if e.given[0] == GIVEN_WALL:
            assert set(np.unique(e.region)) <= {Region.OUTSIDE, Region.CAVITY, Region.WALL}


def test_images_alone_and_lge_alone_as_often_as_asked(backgrounds):
    alone = SMALL.model_copy(update={"lge_alone_chance": 1.0, "nothing_given_chance": 1.0})
    for e in many(alone, backgrounds, n=4):
        assert (e.given == GIVEN_NOTHING).all()
        np.testing.assert_array_equal(e.present, [[True, False, False]] * len(e.present))
    never = SMALL.model_copy(
        update={"lge_alone_chance": 0.0, "nothing_given_chance": 0.0, "real_chance": 0.0}
    )
    for e in many(never, backgrounds, n=4):
        assert (e.given != GIVEN_NOTHING).all()
        assert e.present[0].tolist() != [True, False, False]


def test_labels_never_contradict_a_given_region(drawn):
    for e in drawn:
        if e.given[0] == GIVEN_WALL:
            assert not np.isin(e.codes[e.region == Region.CAVITY], WALL).any()
            assert not (e.codes[e.region == Region.WALL] == Code.BLOOD).any()
            assert not np.isin(e.codes[e.region == Region.OUTSIDE], (Code.BLOOD, *WALL)).any()


def test_without_t2_edema_is_not_told_from_normal_wall(drawn):
    without = [e for e in drawn if not e.present[0, 1]]
    assert without
    for e in without:
        assert not np.isin(e.codes, (Code.EDEMA, Code.MYOCARDIUM)).any()
    assert any((e.codes == Code.MYOCARDIUM).any() for e in drawn if e.present[0, 1])


def test_healthy_hearts_have_no_infarct_and_ill_ones_do(backgrounds):
    lesions = (Code.EDEMA, Code.SCAR, Code.MVO)
    ranges = SMALL.model_copy(update={"healthy_chance": 1.0, "real_chance": 0.0})
    for k in range(10):
        slices = draw_slices(ranges, backgrounds, np.random.default_rng(k))
        assert not np.isin(slices.codes, lesions).any()
    ranges = SMALL.model_copy(update={"healthy_chance": 0.0, "real_chance": 0.0, "height_share": (0.2, 0.8)})
    found = [draw_slices(ranges, backgrounds, np.random.default_rng(k)).codes for k in range(10)]
    assert all((codes == Code.SCAR).any() for codes in found)


def test_there_is_no_ventricle_beyond_base_and_apex(backgrounds):
    lv = (Code.BLOOD, *WALL)
    for share in ((-0.4, -0.2), (1.05, 1.3)):
        ranges = SMALL.model_copy(update={"height_share": share, "real_chance": 0.0})
        for k in range(3):
            codes = draw_slices(ranges, backgrounds, np.random.default_rng(k)).codes
            assert not np.isin(codes, lv).any()
            if share[1] < 0:
                assert not (codes == Code.RV).any()  # the atrium's blood is no right ventricle


def test_of_real_slices_the_cavity_is_known_and_the_wall_is_not(backgrounds):
    ranges = SMALL.model_copy(update={"real_chance": 1.0})
    slices = draw_slices(ranges, backgrounds, np.random.default_rng(0))
    assert not slices.simulated
    assert set(np.unique(slices.codes)) == {Code.BLOOD, Code.NO_BLOOD, Code.OUTSIDE}
    examples = draw_examples(ranges, backgrounds, np.random.default_rng(0))
    assert (examples.given == GIVEN_NOTHING).all()


def test_in_a_real_background_nothing_is_said_of_the_right_ventricle(backgrounds):
    ranges = SMALL.model_copy(
        update={
            "background_chance": 1.0,
            "background_from_mm": (2.0, 2.0),
            "real_chance": 0.0,
            "height_share": (0.2, 0.8),
        }
    )
    codes = draw_slices(ranges, backgrounds, np.random.default_rng(1)).codes
    assert (codes == Code.OUTSIDE).mean() > 0.5
    assert (codes == Code.RV).mean() < 0.02


def test_a_fitting_background_has_a_ventricle_of_the_simulated_size(backgrounds):
    for k in range(20):
        pick, scale = backgrounds.draw_fitting(36.0, np.random.default_rng(k))
        cavity_mm = np.sqrt(backgrounds.cavity[pick].sum() / np.pi) * 1.37
        # Cavity and a wall of 9 mm fill .8 to 1 of the radius, unless the slice would change too much.
        assert 0.65 <= scale <= 1.5
        if 0.65 < scale < 1.5:
            assert 0.8 <= scale * (cavity_mm + 9) / 36 <= 1
    sizes = [backgrounds.draw_fitting(15.0, np.random.default_rng(k))[1] for k in range(20)]
    assert np.median(sizes) < 1  # apical: real ventricles are larger as a rule


def test_real_surroundings_as_acquired_have_the_simulated_blood_and_darkness():
    values = np.tile(np.arange(100, dtype=np.float32), (100, 1))
    real = np.zeros((100, 100), bool)
    real[:, 80] = True  # blood: 80; the darkest twentieth ends at 4.95
    before = np.full((100, 100), 1.0, np.float32)
    blood = np.zeros((100, 100), bool)
    blood[40:60, 40:60] = True
    before[blood] = 3.0
    seen = _as_acquired(values, real, before, blood)
    assert seen[0, 80] == pytest.approx(3.0)
    assert np.interp(4.95, np.arange(100), seen[0]) == pytest.approx(1.0)
    assert seen[0, 40] == pytest.approx(1 + 2 * (40 - 4.95) / (80 - 4.95))


def test_ranges_without_borders_draw_what_they_drew_before(backgrounds):
    usual, other = (
        GeneratorRanges(matrix=64, spacing_mm=2.0, trabeculae_mm=mm) for mm in ((0.0, 3.0), (5.0, 9.0))
    )
    one, two = (draw_examples(r, backgrounds, np.random.default_rng(5)) for r in (usual, other))
    np.testing.assert_array_equal(one.image, two.image)


def test_hidden_borders_leave_the_ventricle_where_it_is(backgrounds):
    hidden = SMALL.model_copy(update={"borders_chance": 1.0, "real_chance": 0.0, "background_chance": 0.0})
    plain = hidden.model_copy(update={"borders_chance": 0.0})
    for k in range(5):
        one, two = (draw_slices(r, backgrounds, np.random.default_rng(k)) for r in (plain, hidden))
        np.testing.assert_array_equal(np.isin(one.codes, LV), np.isin(two.codes, LV))
        assert not np.array_equal(one.image, two.image)


def test_changes_of_slices_are_their_own():
    """Without any chance of a change nothing changes; with one, each slice and sequence differs."""
    image = np.random.default_rng(0).normal(size=(3, 2, 16, 16)).astype(np.float32)
    none = SMALL.model_copy(update={"warp_chance": 0.0, "slice_contrast_chance": 0.0})
    np.testing.assert_array_equal(changed_slices(image, none, np.random.default_rng(0)), image)
    offsets = none.model_copy(
        update={
            "slice_contrast_chance": 1.0,
            "slice_log_gain": (0.0, 0.0),
            "slice_shading_sd": 0.0,
            "slice_offset_sd": 0.5,
        }
    )
    change = changed_slices(image, offsets, np.random.default_rng(0)) - image
    assert change.std(axis=(2, 3)).max() < 1e-6
    assert len(np.unique(change[..., 0, 0].round(4))) == 6


def test_smooth_fields_have_unit_variance():
    fields = smooth_fields((40,), sigma_px=5.0, size=(64, 64), rng=np.random.default_rng(0))
    assert fields.shape == (40, 64, 64)
    assert float(np.square(fields).mean()) == pytest.approx(1.0, abs=1e-3)
    neighbours = (fields[:, 1:] * fields[:, :-1]).mean()
    assert neighbours > 0.9
    white = smooth_fields((4,), sigma_px=0.5, size=(64, 64), rng=np.random.default_rng(0))
    assert abs((white[:, 1:] * white[:, :-1]).mean()) < 0.05


def test_a_perfect_scanner_shows_the_signal_above_its_zero():
    ranges = SMALL.model_copy(
        update={
            "noise": (0.0, 0.0),
            "coil_shading": (0.0, 0.0),
            "motion_chance": 0.0,
            "ghost_chance": 0.0,
            "ringing_chance": 0.0,
        }
    )
    signal = np.full((3, 32, 32, 2), 1.5, np.float32)
    zero = np.array([-1.0, -0.5, 2.0], np.float32)
    options = {"ranges": ranges, "rng": np.random.default_rng(0)}
    out = scan(signal, zero, psir=False, **options)
    np.testing.assert_allclose(out[:, 16, 16, 0], [2.5, 2.0, 0.5], rtol=1e-5)  # the last is a magnitude
    signed = scan(np.full((1, 32, 32, 1), -3.0, np.float32), np.zeros(1), psir=True, **options)
    assert signed[0, 16, 16, 0] == pytest.approx(-3.0)


def test_random_contrast_keeps_structure_and_has_a_scale():
    values = np.repeat(np.arange(6.0), 40)[:, None] * np.ones((1, 60)) * 30
    seen = random_contrast(values.astype(np.float32), np.random.default_rng(0))
    assert seen.mean() == pytest.approx(0, abs=1e-5)
    assert seen.std() == pytest.approx(1, abs=1e-4)
    inner = [seen[40 * k + 10 : 40 * k + 30] for k in range(6)]
    assert max(band.std() for band in inner) < 0.5 * np.std([band.mean() for band in inner])


def test_whole_slices_show_a_cavity_or_none(backgrounds):
    slices = draw_whole_slices(24, backgrounds, np.random.default_rng(0))
    assert slices.image.shape == (24, 128, 128)
    np.testing.assert_allclose(slices.image.mean(axis=(1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(slices.image.std(axis=(1, 2)), 1, atol=1e-3)
    with_heart = slices.cavity.any(axis=(1, 2))
    assert 0.5 < with_heart.mean() < 1
    area_mm2 = slices.cavity[with_heart].sum(axis=(1, 2)) * 2.5**2
    assert 200 < np.median(area_mm2) < 4000


def test_shipped_backgrounds_leave_patients_out(backgrounds):
    patients = {name.split("-IM-")[0] for name in backgrounds.names}
    assert len(patients) == 30
    assert not patients & {"SC-HF-I-01", "SC-HF-I-02", "SC-HF-I-04", "SC-HF-I-05", "SC-N-02"}
    assert backgrounds.images.shape[1:] == (256, 256)
    assert backgrounds.cavity.any(axis=(1, 2)).all()


def test_backgrounds_of_a_folder(tmp_path):
    with pytest.raises(InputError, match="there are no backgrounds"):
        read_backgrounds(tmp_path)
    for kind in ("images", "endocardium"):
        (tmp_path / kind).mkdir()
    values = np.zeros((20, 30), np.uint8)
    values[8:12, 10:16] = 200
    Image.fromarray(values).save(tmp_path / "images" / "p1-IM-1.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_backgrounds(tmp_path)
    Image.fromarray(values).save(tmp_path / "endocardium" / "p1-IM-1.png")
    found = read_backgrounds(tmp_path)
    assert found.names == ("p1-IM-1",)
    np.testing.assert_allclose(found.centres, [[9.5, 12.5]])
    Image.fromarray(values * 0).save(tmp_path / "endocardium" / "p1-IM-1.png")
    with pytest.raises(InputError, match="mask of the cavity is empty"):
        read_backgrounds(tmp_path)
    Image.fromarray(values[:10]).save(tmp_path / "endocardium" / "p1-IM-1.png")
    with pytest.raises(InputError, match="differ in size"):
        read_backgrounds(tmp_path)
