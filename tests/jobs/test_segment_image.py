"""Natural images with known segments, by the methods of the registry."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import mrigmm
import mrigmm.jobs.segment_image as job
from mrigmm.errors import InputError

# A dark field, a green disc, a light stripe, in 8 bits; noise of SD 6.
COLOURS = np.array([(40, 30, 60), (60, 140, 70), (220, 210, 200)])


def truth(height=36, width=48):
    y, x = np.mgrid[:height, :width]
    labels = np.where(np.hypot(y - 20, x - 14) < 10, 1, 0)
    return np.where(x > 34, 2, labels)


def picture(seed=0):
    clean = COLOURS[truth()]
    noise = np.random.default_rng(seed).normal(0, 6, clean.shape)
    return np.clip(clean + noise, 0, 255).round().astype(np.uint8)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(picture()).save(file)
    return file


def labels_of(file):
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.mark.parametrize("method", ["em-gmm", "em-gmm-sklearn", "em-svgmm", "kmeans", "consensus"])
def test_methods_find_the_segments_from_dark_to_bright(photo, tmp_path, method):
    out = tmp_path / "labels.png"
    result = mrigmm.segment_image(photo, out, method=method, k=3, device="cpu")
    assert (result.output, result.done, result.failed) == (out, ("photo.png",), False)
    assert (labels_of(out) == truth() + 1).mean() > 0.995


def test_a_deep_method_runs_too(photo, tmp_path):
    settings = ["filters=2", "levels=2", "epochs=2", "min_epochs=0"]
    out = tmp_path / "labels.png"
    mrigmm.segment_image(photo, out, method="deepsvg-single", k=3, overrides=settings, device="cpu")
    assert set(np.unique(labels_of(out))) <= {1, 2, 3}


def test_the_side_file(photo, tmp_path):
    result = mrigmm.segment_image(photo, tmp_path / "labels.png", k=3, overrides=["seed=4"])
    side = json.loads((tmp_path / "labels.json").read_text())
    labels, values = labels_of(tmp_path / "labels.png"), picture()
    assert (side["method"], side["settings"]["seed"]) == ("kmeans", 4)
    assert (side["width"], side["height"], side["channels"]) == (48, 36, ["R", "G", "B"])
    for segment in side["segments"]:
        members = labels == segment["label"]
        assert segment["pixels"] == members.sum()
        assert [*segment["mean"].values()] == pytest.approx(values[members].mean(axis=0))
    assert [s["label"] for s in side["segments"]] == [1, 2, 3]
    assert side["pixels_outside"] == 0
    assert side["image"] == str(photo)
    assert {"mrigmm", "torch", "pillow"} <= set(side["versions"])
    assert side["warnings"] == [problem.what for problem in result.problems]


def test_mask_and_transparency_are_outside(tmp_path):
    alpha = np.full(truth().shape, 255, dtype=np.uint8)
    alpha[:5] = 0
    mask = np.zeros_like(alpha)
    mask[:, 10:] = 255
    Image.fromarray(np.dstack([picture(), alpha])).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    mrigmm.segment_image(tmp_path / "photo.png", tmp_path / "l.png", k=3, mask=tmp_path / "mask.png")
    labels = labels_of(tmp_path / "l.png")
    inside = (alpha > 0) & (mask > 0)
    np.testing.assert_array_equal(labels > 0, inside)
    assert (labels[inside] == truth()[inside] + 1).mean() > 0.995
    assert json.loads((tmp_path / "l.json").read_text())["pixels_outside"] == (~inside).sum()


def test_a_grey_photograph_of_16_bits(tmp_path):
    levels = np.array([8_000, 25_000, 60_000])[truth()] + np.random.default_rng(0).normal(
        0, 900, truth().shape
    )
    Image.fromarray(levels.astype(np.uint16)).save(tmp_path / "p.png")
    mrigmm.segment_image(tmp_path / "p.png", tmp_path / "l.png", method="em-gmm", k=3)
    np.testing.assert_array_equal(labels_of(tmp_path / "l.png"), truth() + 1)
    means = [s["mean"]["grey"] for s in json.loads((tmp_path / "l.json").read_text())["segments"]]
    assert means == pytest.approx([8_000, 25_000, 60_000], abs=150)


def test_the_overlay_shows_the_borders_on_the_image(photo, tmp_path):
    overlay = tmp_path / "overlay.png"
    mrigmm.segment_image(photo, tmp_path / "l.png", k=3, overlay=overlay)
    changed = (labels_of(overlay) != picture()).any(axis=-1)
    labels = truth()
    assert changed[:, 34:36].all()  # the stripe's border, on both sides
    assert not changed[labels == 2][:].all()
    assert changed.mean() < 0.2


def test_the_orientation_of_the_image_is_that_of_the_labels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "p.png", exif=exif)
    result = mrigmm.segment_image(tmp_path / "p.png", tmp_path / "l.png", k=3)
    with Image.open(tmp_path / "l.png") as written:
        assert written.size == (48, 36)  # as stored
        assert written.getexif()[0x0112] == 6
    assert any("EXIF orientation 6" in problem.what for problem in result.problems)


def test_empty_segments_are_told(tmp_path):
    Image.fromarray(np.where(truth() == 2, 200, 10).astype(np.uint8)).save(tmp_path / "p.png")
    result = mrigmm.segment_image(tmp_path / "p.png", tmp_path / "l.png", k=4)
    text = next(p.what for p in result.problems if "without pixels" in p.what)
    assert len(re.findall(r"\d", text)) == 2
    segments = json.loads((tmp_path / "l.json").read_text())["segments"]
    assert [s["mean"] for s in segments].count(None) == 2


@pytest.mark.parametrize(
    ("how", "message", "detail"),
    [
        ({"method": "nsd"}, "nsd does not segment photographs", "needs the classes myocardium and scar"),
        ({"method": "fwhm"}, "fwhm does not segment photographs", "needs the classes"),
        ({"method": "map-em"}, "map-em does not segment photographs", "needs a population prior"),
        ({"method": "k-means"}, "unknown method 'k-means'", "did you mean kmeans"),
        ({"method": "kmeans", "overrides": ["n=3"]}, "kmeans has no setting 'n'", ""),
        ({"k": 1}, "number of segments is not possible", "2 to 255"),
        ({"k": 256}, "number of segments is not possible", "256"),
        ({"device": "cuda:99"}, "is not there", ""),
    ],
)
def test_what_cannot_be_done_is_refused(photo, tmp_path, how, message, detail):
    with pytest.raises(InputError, match=message) as caught:
        mrigmm.segment_image(photo, tmp_path / "l.png", **how)
    assert detail in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_a_trained_run_is_no_method(photo, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="not photographs") as caught:
        mrigmm.segment_image(photo, tmp_path / "l.png", method=str(tmp_path / "run"))
    assert caught.value.problems[0].remedy == "give the name of a method (mrigmm info)"


def test_too_few_pixels(photo, tmp_path):
    mask = np.zeros(truth().shape, dtype=np.uint8)
    mask[0, :2] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="fewer pixels than segments") as caught:
        mrigmm.segment_image(photo, tmp_path / "l.png", mask=tmp_path / "m.png", k=3)
    assert caught.value.problems[0].got == "2"


def test_nothing_is_replaced_unasked_and_no_input_ever(photo, tmp_path):
    out = tmp_path / "l.png"
    mrigmm.segment_image(photo, out, k=2)
    before = photo.read_bytes()
    with pytest.raises(InputError, match="already there"):
        mrigmm.segment_image(photo, out, k=3)
    mrigmm.segment_image(photo, out, k=3, overwrite=True)
    assert labels_of(out).max() == 3
    out.unlink()  # the side file alone is in the way, too
    with pytest.raises(InputError, match="already there"):
        mrigmm.segment_image(photo, out)
    for how in (
        {"out": photo},
        {"out": tmp_path / "new.png", "overlay": photo},
        {"out": tmp_path / "new.png", "mask": tmp_path / "l.json"},
    ):
        with pytest.raises(InputError):
            mrigmm.segment_image(photo, **how, overwrite=True)
    with pytest.raises(InputError, match="replace an input"):
        mrigmm.segment_image(photo, photo, overwrite=True)
    assert photo.read_bytes() == before
    assert not (tmp_path / "new.png").exists()


@pytest.mark.parametrize(
    ("out", "overlay", "message"),
    [
        ("l.jpg", None, "written as PNG"),
        ("l", None, "written as PNG"),
        ("l.png", "o.jpg", "written as PNG"),
        ("l.png", "l.png", "would replace the label image"),
    ],
)
def test_names_of_the_results(photo, tmp_path, out, overlay, message):
    with pytest.raises(InputError, match=message):
        mrigmm.segment_image(photo, tmp_path / out, overlay=overlay and tmp_path / overlay)


def test_no_half_result_is_left(photo, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(job, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        mrigmm.segment_image(photo, tmp_path / "l.png", overlay=tmp_path / "o.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png"]


def test_a_method_that_breaks_is_no_traceback(photo, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("boom")

    monkeypatch.setattr("mrigmm.methods.kmeans.KMeans.segment", broken)
    with pytest.raises(InputError, match="unexpected error") as caught:
        mrigmm.segment_image(photo, tmp_path / "l.png")
    assert (caught.value.problems[0].study, caught.value.problems[0].got) == (
        "photo.png",
        "RuntimeError: boom",
    )


def test_a_method_that_learns_from_the_cohort_sees_the_image(photo, tmp_path, monkeypatch):
    from mrigmm.methods.kmeans import KMeans

    seen, learn = [], KMeans.fit_cohort

    def watched(self, studies):
        seen.extend(study.id for study in studies())
        learn(self, studies)

    monkeypatch.setattr(KMeans, "fit_cohort", watched)
    mrigmm.segment_image(photo, tmp_path / "l.png", overrides=("scope=cohort",))
    assert seen == ["photo.png"]


def test_the_command(cli, photo, tmp_path):
    out = tmp_path / "labels.png"
    how = ("--method", "em-gmm", "-k", 3, "--set", "covariance=full", "--overlay", tmp_path / "o.png")
    result = cli("segment-image", photo, "-o", out, *how)
    assert (result.code, result.out) == (0, f"segments: {out}\n")
    assert "warning (photo.png): no population prior: classes are ordered by brightness" in result.err
    assert json.loads((tmp_path / "labels.json").read_text())["settings"]["covariance"] == "full"
    assert (tmp_path / "o.png").exists()
    refused = cli("segment-image", photo, "-o", out, *how)
    assert (refused.code, "already there" in refused.err) == (2, True)
    quiet = cli("segment-image", photo, "-o", out, *how, "--overwrite", "--quiet", "--device", "cpu")
    assert (quiet.code, quiet.err) == (0, "")
    assert cli("segment-image", tmp_path / "none.png", "-o", tmp_path / "x.png").code == 2
