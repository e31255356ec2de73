import pytest

from mrigmm.data.manifest import check_study_id
from mrigmm.data.manifest_file import read_manifest
from mrigmm.errors import InputError
from tests.data.manifests import GOOD, write


def test_splits(tmp_path):
    cohort = read_manifest(write(tmp_path, GOOD))
    with pytest.raises(InputError, match="did you mean test"):
        cohort.split("tests")
    with pytest.raises(InputError, match=r"studies in: test \(1\)"):
        cohort.split("training")


@pytest.mark.parametrize("study_id", ["p1", "Müller", "a b", "a.b-c_d(2)", "x" * 150, "é" * 75])
def test_good_study_ids(study_id):
    assert check_study_id(study_id) is None


@pytest.mark.parametrize(
    "study_id",
    [
        *(None, 3, "", "  ", ".", "..", ".hidden", "a/b", "a\\b", "a:b", "a*", "a?", 'a"', "a<b", "a|b"),
        *("a\x00", "a\n", "a\x7f", "a\u202eb", "\ud800", "x" * 151, "é" * 76),
    ],
)
def test_bad_study_ids(study_id):
    assert check_study_id(study_id)
