import pytest
import yaml

from mrigmm.config import RunConfig, load_config, make_config
from mrigmm.errors import InputError
from mrigmm.settings_yaml import dump_config, parse_overrides


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("epochs=50", "epochs", 50),
        ("learning_rate=1e-4", "learning_rate", 1e-4),  # YAML 1.1 alone reads this as text
        (" seed = 3", "seed", 3),
        ("sequences=[LGE, T2]", "sequences", ("LGE", "T2")),
        ("spacing_mm=null", "spacing_mm", None),
        ("covariance=diag", "covariance", "diag"),
    ],
)
def test_overrides(text, key, value):
    assert getattr(make_config("default", [text]), key) == value


def test_no_objects_are_made_from_yaml():
    with pytest.raises(InputError, match="cannot be read"):
        parse_overrides(["seed=!!python/object/apply:os.getpid []"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the run has no configuration"),
        ("- 1", "not a mapping"),
        ("", "not a mapping"),
        ("a: [", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        ("epochs: 3", "another version"),
        ("version: 99", "another version"),
        ("version: 2\nepoch: 3", "did you mean epochs"),
        ("version: 2\ncrop_mm: .nan", "finite"),
    ],
)
def test_damaged_configurations_are_refused(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert caught.value.problems[0].file == str(path)


def test_yaml_is_in_the_order_of_the_fields():
    assert list(yaml.safe_load(dump_config(RunConfig()))) == list(RunConfig.model_fields)


def test_overrides_by_key_and_one_text_that_is_no_list():
    assert make_config("default", {"epochs": 50, "sequences": ["LGE"]}).epochs == 50
    with pytest.raises(InputError, match="'epohcs'"):
        make_config("default", {"epohcs": 50})
    with pytest.raises(InputError, match="several texts") as caught:
        make_config("default", "epochs=50")
    with pytest.raises(InputError, match="must be a text"):
        make_config("default", [("epochs", 50)])
    assert caught.value.problems[0].expected == '["epochs=50"], or {"epochs": 50}'
