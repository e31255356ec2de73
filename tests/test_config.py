import re

import pytest

from mrigmm.config import PRESET_DESCRIPTIONS, PRESETS, load_config, make_config
from mrigmm.errors import InputError
from mrigmm.settings_yaml import dump_config


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_described_and_survive_their_yaml(preset, tmp_path):
    config = make_config(preset)
    assert config.preset == preset
    assert PRESET_DESCRIPTIONS[preset]
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


def test_published_presets_are_as_published():
    deepg, deepsvg = make_config("deepg"), make_config("deepsvg")
    assert (deepg.objective, deepsvg.objective) == ("nll", "nll_v")
    for config in (deepg, deepsvg):
        assert (config.filters, config.scope, config.covariance) == (32, "slice", "diag")
        assert config.mean_regulariser == 1
        assert config.prior_strength == 0  # maximum likelihood
        assert (config.parameters, config.spatial_dims, config.levels) == ("mstep", 2, 4)
        assert (config.standardise, config.published_augmentation, config.crop_mm) == ("crop", True, 120)
        assert config.flip_probability == pytest.approx(2 / 3)
        # AdamW, decay (1 - e / 100) ** 0.9 (tests/training/test_fit.py), stop rule
        assert (config.learning_rate, config.weight_decay, config.clip_norm) == (1e-3, 1e-3, 12)
        assert (config.epochs, config.batch_slices) == (100, 4)
        assert (config.min_epochs, config.stop_tolerance) == (10, 0.005)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("default", ["spatial_dims=3"], "spatial_dims=3: only with objective=nll"),
        ("default", ["parameters=head", "standardise=crop"], "standardise=crop, parameters=head: only with"),
        ("default", ["published_augmentation=true"], "published_augmentation=True: only with"),
        ("deepsvg", ["objective=gem"], "only with objective=nll"),
        ("deepsvg", ["spatial_dims=3"], "set scope=study too"),
        ("deepg", ["parameters=head", "prior_strength=0.1"], "set prior_strength=0 too"),
        ("deepg", ["spatial_dims=4"], "Input should be 2 or 3"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(preset, overrides, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make_config(preset, overrides)


def test_settings_that_fit_together():
    config = make_config("deepsvg", ["spatial_dims=3", "scope=study", "parameters=head", "covariance=full"])
    assert (config.spatial_dims, config.parameters) == (3, "head")


def test_a_run_from_before_crop_standardisation_keeps_its_units(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("version: 2\npreset: deepsvg\nobjective: nll_v\n")
    config = load_config(path)
    assert (config.standardise, config.published_augmentation) == ("region", False)


def test_the_last_of_two_overrides_counts():
    assert make_config("default", ["epochs=1", "epochs=2"]).epochs == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epoch=5", "did you mean epochs or min_epochs?"),
        ("batch_slice=5", "did you mean batch_slices"),
        ("foo=5", "unknown configuration key 'foo'"),
        ("epochs", "for example --set epochs=50"),
        ("=5", "must be key=value"),
        ("epochs=[", "cannot be read"),
        ("epochs=0", "greater than or equal to 1"),
        ("epochs=2.5", "integer"),
        ("epochs=", "integer"),
        ("learning_rate=0", "greater than 0"),
        ("learning_rate=nan", "finite"),
        ("learning_rate=inf", "finite"),
        ("crop_mm=.inf", "finite"),
        ("flip_probability=1.1", "less than or equal to 1"),
        ("covariance=spherical", "'full' or 'diag'"),
        ("sequences=LGE", "tuple"),
        ("sequences=[LGE, LGE]", "each name may stand once"),
        ("classes=[blood, blood]", "each name may stand once"),
        ("version=1", "Input should be 2"),
        # It would change the name in the run's records and nothing else.
        ("preset=tiny", "choose it with --preset"),
    ],
)
def test_bad_overrides_are_refused(override, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make_config("default", [override])


def settings_file(folder, text):
    file = folder / "settings.yaml"
    file.write_text(text)
    return file


def test_a_file_of_settings_changes_a_preset_and_is_changed_by_overrides(tmp_path):
    file = settings_file(tmp_path, "preset: tiny\nepochs: 7\nlearning_rate: 1e-4\nseed: 3\n")
    config = make_config(overrides=["seed=4"], file=file)
    assert (config.preset, config.filters, config.crop_mm) == ("tiny", 4, 96)  # the preset's
    assert (config.epochs, config.learning_rate, config.seed) == (7, 1e-4, 4)
    assert make_config("tiny", ["seed=4"], file) == config
    file.write_text("epochs: 7\n")
    assert make_config("deepsvg", file=file) == make_config("deepsvg", ["epochs=7"])
    assert make_config(file=file) == make_config("default", ["epochs=7"])


def test_whose_setting_is_wrong(tmp_path):
    file = settings_file(tmp_path, "preset: null\nepoch: 2\n")
    with pytest.raises(InputError) as caught:
        make_config("tiny", ["filter=4"], file)
    assert {(p.what, p.file) for p in caught.value.problems} == {
        ("unknown configuration key 'epoch'", str(file)),
        ("unknown configuration key 'filter'", "--set"),
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_the_configuration_of_a_run_is_a_file_of_settings(preset, tmp_path):
    config = make_config(preset, ["seed=5", "spacing_mm=1.25", "sequences=[LGE, T2]"])
    assert make_config(file=settings_file(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: tiny", "the file of settings names another preset"),
        ("preset: tinny", "names another preset"),
        ("epoch: 5", "did you mean epochs or min_epochs?"),
        ("epochs: 0", "greater than or equal to 1"),
        ("version: 1", "another version"),
        ("kind: anatomy", "finds the ventricle"),
        ("kind: pretrained", "pretrained networks, and no deep GMM"),
        ("epochs: [", "cannot be read"),
        ("7", "not a mapping"),
    ],
)
def test_bad_files_of_settings_are_refused(tmp_path, text, message):
    file = settings_file(tmp_path, text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        make_config("deepsvg", file=file)
    assert str(file) in caught.value.problems[0].file


def test_a_preset_that_a_file_names_wrongly_has_near_misses(tmp_path):
    with pytest.raises(InputError, match="did you mean tiny"):
        make_config(file=settings_file(tmp_path, "preset: tinny"))


def test_a_file_of_settings_that_is_not_there(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="there is no such file of settings"):
            make_config(file=path)


def test_every_bad_override_is_reported():
    with pytest.raises(InputError) as caught:
        make_config("default", ["epoch=5", "filters=0", "levels=7"])
    assert len(caught.value.problems) == 3


def test_unknown_preset_names_the_near_miss():
    with pytest.raises(InputError, match="did you mean deepsvg"):
        make_config("deep-svg")


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        make_config().epochs = 3
