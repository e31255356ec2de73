"""scripts/benchmark_images.py: overlaps by hand, a folder in the Berkeley style, and the whole of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mrigmm.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import benchmark_images as script
from photographs.cases import KINDS, folder_cases, simulated_case
from photographs.scoring import iou_table, score, summarise

# A row of 12 pixels: segment 0 has 6, 1 has 3, 2 has 3.
REFERENCE = np.array([[0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2]])


def test_iou_by_hand():
    """Cluster 1: five pixels of segment 0. Cluster 2: the sixth, and all of segments 1 and 2."""
    labels = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]])
    expected = [[5 / 6, 1 / 12], [0, 3 / 7], [0, 3 / 7]]
    np.testing.assert_allclose(iou_table(labels, REFERENCE), expected)
    found = score(labels, (REFERENCE,))
    assert found.best_cluster == pytest.approx((5 / 6 + 3 / 7 + 3 / 7) / 3)
    assert found.one_to_one == pytest.approx((5 / 6 + 3 / 7) / 3)  # the third has no cluster of its own


def test_only_the_slides_measure_lets_two_segments_share_a_cluster():
    """Segment 0 in halves: 1/2 in both measures. Segments 1 and 2 in one cluster: 1/2 twice, or once."""
    halves = np.array([[1, 1, 1, 4, 4, 4, 2, 2, 2, 3, 3, 3]])
    found = score(halves, (REFERENCE,))
    assert (found.best_cluster, found.one_to_one) == (pytest.approx(2.5 / 3), pytest.approx(2.5 / 3))
    merged = np.array([[1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]])
    found = score(merged, (REFERENCE,))
    assert (found.best_cluster, found.one_to_one) == (pytest.approx(2 / 3), pytest.approx(1.5 / 3))


def test_pixels_without_a_cluster_count_in_the_union():
    labels = np.array([[1, 1, 1, 0, 0, 0, 2, 2, 2, 3, 3, 3]])
    np.testing.assert_allclose(np.diag(iou_table(labels, REFERENCE)), [0.5, 1, 1])
    assert score(np.zeros_like(REFERENCE), (REFERENCE,)).best_cluster == 0


def test_several_people_are_averaged():
    labels = REFERENCE + 1
    assert score(labels, (REFERENCE, np.zeros_like(REFERENCE))).one_to_one == pytest.approx((1 + 0.5) / 2)


def test_the_summary():
    found = summarise(np.array([[0.2, 0.4], [0.6, 0.8]]))
    assert found.mean == pytest.approx(0.5)
    assert found.sd_images == pytest.approx(0.4 / 2**0.5)
    assert found.sd_repeats == pytest.approx(0.2 / 2**0.5)
    assert summarise(np.array([[0.3]])).sd_repeats == 0


@pytest.mark.parametrize("index", range(3))
def test_simulated_images(index):
    case, again, other = (simulated_case(seed, index, 32) for seed in (5, 5, 6))
    assert case.id == f"{KINDS[index]}-{index}"
    np.testing.assert_array_equal(case.photograph.values, again.photograph.values)
    assert not np.array_equal(case.photograph.values, other.photograph.values)
    assert 3 <= case.n_segments <= 6
    assert case.photograph.values.min() >= 0
    assert case.photograph.values.max() <= 255


def berkeley(folder, references):
    """A folder as BSDS500 has it: a cell of structs with Segmentation."""
    (folder / "images" / "test").mkdir(parents=True)
    (folder / "groundTruth" / "test").mkdir(parents=True)
    rng = np.random.default_rng(0)
    levels = np.array([40, 120, 220])[references[0]][..., None] + rng.normal(0, 3, (*references[0].shape, 3))
    Image.fromarray(levels.astype(np.uint8)).save(folder / "images" / "test" / "25098.png")
    cell = np.empty((1, len(references)), dtype=object)
    for index, reference in enumerate(references):
        cell[0, index] = {"Segmentation": (reference + 1).astype(np.uint16), "Boundaries": reference > 0}
    savemat(folder / "groundTruth" / "test" / "25098.mat", {"groundTruth": cell})


def test_a_berkeley_folder(tmp_path):
    first = np.kron([[0, 1], [2, 0]], np.ones((8, 9))).astype(int)
    berkeley(tmp_path, [first, (first > 0).astype(int)])
    (case,) = folder_cases(tmp_path, None)
    assert (case.id, len(case.references), case.photograph.opaque.shape) == ("25098", 2, (16, 18))
    np.testing.assert_array_equal(case.references[0], first + 1)
    code = script.main(["-o", str(tmp_path / "out"), "--folder", str(tmp_path), "-k", "3", "--repeats", "1",
                        "--method", "kmeans", "--method", "em-gmm covariance=full"])  # fmt: skip
    assert code == 0
    rows = json.loads((tmp_path / "out" / "images.json").read_text())["rows"]
    one = rows["kmeans"]["scores"]["25098"][0]
    # All right for the first person; the second has 1 and 2 as one segment of twice the size.
    assert one["one_to_one"] == pytest.approx((1 + 0.75) / 2)
    assert rows["em-gmm covariance=full"]["settings"] == {"covariance": "full"}


def test_label_images_as_ground_truth(tmp_path):
    for name in ("images", "groundTruth"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    for name, values in (("a_1", [[0, 0, 90], [0, 0, 90]]), ("a_2", [[5, 6, 7], [5, 6, 7]])):
        Image.fromarray(np.array(values, dtype=np.uint8)).save(tmp_path / "groundTruth" / f"{name}.png")
    (case,) = folder_cases(tmp_path, 1)
    assert [len(np.unique(reference)) for reference in case.references] == [2, 3]


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no images with ground truth"):
        folder_cases(tmp_path, None)
    for name in ("images", "groundTruth"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="there are no images"):
        folder_cases(tmp_path, None)
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="an image has no ground truth"):
        folder_cases(tmp_path, None)
    Image.fromarray(np.zeros((4, 3), np.uint8)).save(tmp_path / "groundTruth" / "a.png")
    with pytest.raises(InputError, match="another size"):
        folder_cases(tmp_path, None)
    (tmp_path / "groundTruth" / "a.mat").write_bytes(b"no MATLAB")
    with pytest.raises(InputError, match="cannot be read"):
        folder_cases(tmp_path, None)
    assert script.main(["-o", str(tmp_path / "out"), "--folder", str(tmp_path)]) == 2


def test_three_questions_with_what_this_version_has(tmp_path, capsys):
    known = {row.label for rows in script.QUESTIONS.values() for row in rows if row.known}
    assert {"kmeans", "em-gmm", "consensus, staple"} <= known
    assert script.Row("x", "kmeans", {"no_such_setting": 1}).known is False
    assert script.Row("x", "no-such-method").known is False
    assert script.main(["-o", str(tmp_path), "--images", "1", "--size", "24", "--repeats", "2",
                        "--method", "kmeans", "--method", "nsd"]) == 0  # fmt: skip
    content = json.loads((tmp_path / "images.json").read_text())
    assert "seed 2026" in content["images"]
    assert len(content["rows"]["kmeans"]["scores"]["noise-0"]) == 2
    assert content["rows"]["nsd"]["failures"] == {"noise-0": "nsd does not segment photographs"}
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "images.md").read_text()
    assert "| `nsd` | – |" in printed
    assert script.main(["-o", str(tmp_path), "--method", "kmeans n=3"]) == 2
