"""What `info` says."""

import json
import re

import mrigmm
from mrigmm.methods.registry import METHODS


def test_info(cli):
    content = json.loads(cli("info", "--json").out)
    assert set(content["methods"]) == set(METHODS)
    assert {"deepg", "deepsvg", "tiny", "default"} <= set(content["presets"])
    assert content["classes"] == {"blood": 1, "myocardium": 2, "edema": 3, "scar": 4}
    assert content["versions"]["mrigmm"] == mrigmm.__version__
    table = cli("info").out
    assert all(name in table for name in (*content["methods"], *content["presets"]))


def test_info_lists_what_can_be_set_for_a_method(cli):
    settings = json.loads(cli("info", "--json").out)["method_settings"]
    assert set(settings) == set(METHODS) - {"otsu", "two-gaussians"}
    assert "scope [slice]" in settings["em-gmm"]
    assert "prior_strength [0.1]" in settings["map-em"]
    # Its prior gives start and names.
    assert not {"seed [0]", "order_by [None]"} & {*settings["map-em"]}
    assert {"seed [0]", "order_by [None]"} <= {*settings["em-gmm"]}
    assert "smoothing_mm [2.25]" in settings["map-em-2step"]
    assert re.search(r"map-em-2step .*smoothing_mm \[2\.25\]", cli("info").out)


def test_info_lists_what_can_be_set_for_training(cli):
    content = json.loads(cli("info", "--json").out)
    assert content["train_settings"]["crop_mm"] == "Side of the square crop around the region. [96.0]"
    assert content["train_anatomy_settings"]["levels"] == "Number of poolings. [4]"
    known = {*content["train_settings"], *content["train_anatomy_settings"]}
    assert not {"version", "kind", "preset"} & known
    assert re.search(r"^train anatomy settings$", cli("info").out, re.MULTILINE)
