import json

import pytest

from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from tests.data.manifests import GOOD, problems, write


def test_a_byte_order_mark_is_read_over(tmp_path):
    assert read_manifest(write(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())).sequences


def test_paths_resolve_against_the_data_root(tmp_path):
    root = tmp_path / "elsewhere"
    root.mkdir()
    assert read_manifest(write(tmp_path, GOOD), root).split("test")[0].label == root / "l.nii"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        (b"\xff\xfe{}", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
    ],
)
def test_files_that_are_no_manifest(tmp_path, content, message):
    (found,) = problems(tmp_path, content)
    assert message in found.what


def test_a_folder_and_nothing_are_no_manifest(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "no.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(tmp_path)


def test_the_data_root_must_be_a_folder(tmp_path):
    path = write(tmp_path, GOOD)
    for root in (path, tmp_path / "no"):
        with pytest.raises(InputError, match="the data root is not a folder"):
            read_manifest(path, root)
