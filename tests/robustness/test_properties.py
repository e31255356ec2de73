"""Properties that hold for every input of a kind, tried on many of them (hypothesis).

Geometry: the way a study is stored changes no label, and the output lies on the input's grid. Manifests,
configurations and NIfTI headers: whatever they say, they are read or refused with a message.
"""

from __future__ import annotations

import json
import string
import tempfile
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mrigmm
from mrigmm.config import PRESETS, load_config, make_config
from mrigmm.data.manifest import check_study_id
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.volumes import read_image
from mrigmm.errors import InputError, printable
from mrigmm.settings_yaml import dump_config

from ..conftest import SEQUENCES, intensities, oblique_affine, save_nifti, ventricle
from .cases import SHAPE


def examples(count):
    return settings(
        max_examples=count, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )


def stored(data, affine, order, flips):
    """The same physical volume with array axes permuted and flipped."""
    ornt = np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)], dtype=float)
    image = nib.Nifti1Image(data, affine).as_reoriented(ornt)
    return np.asarray(image.dataobj), image.affine


def predicted(folder, affine, order, flips, *, method="map-em", shape=SHAPE):
    """Label map of the study stored so, turned back to the order in which it was made, and its file."""
    label = ventricle(shape)
    images = {}
    for name in SEQUENCES:
        data, where = stored(intensities(label, name), affine, order, flips)
        images[name] = save_nifti(folder / f"{name}.nii", data, where)
    data, where = stored((label > 0).astype(np.uint8), affine, order, flips)
    region = save_nifti(folder / "region.nii", data, where)
    mrigmm.predict_study(images, region, folder / "out", study_id="s", method=method)
    result = nib.load(folder / "out" / "s_labels.nii.gz")
    source = nib.load(images["LGE"])
    assert result.shape == source.shape
    np.testing.assert_array_equal(result.affine, source.affine)
    for field in ("qform_code", "sform_code", "pixdim"):
        np.testing.assert_array_equal(result.header[field], source.header[field])
    back = nib.orientations.ornt_transform(
        np.array([[0, 1], [1, 1], [2, 1]], dtype=float),
        np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)], dtype=float),
    )
    inverse = nib.orientations.apply_orientation(np.asarray(result.dataobj), back)
    return np.asarray(inverse)


ORDERS = st.sampled_from(list(permutations(range(3))))
FLIPS = st.tuples(*[st.sampled_from([-1, 1])] * 3)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Label maps of the study as it was made, by affine and method."""
    found = {}

    def labels(affine, method):
        key = (affine.tobytes(), method)
        if key not in found:
            folder = tmp_path_factory.mktemp("straight")
            found[key] = predicted(folder, affine, (0, 1, 2), (1, 1, 1), method=method)
        return found[key]

    return labels


@examples(20)
@given(order=ORDERS, flips=FLIPS, method=st.sampled_from(["map-em", "em-gmm", "map-em-2step"]))
def test_predict_commutes_with_flips_and_permutations(straight, order, flips, method):
    """predict(turned study) = turned predict(study), voxel by voxel."""
    affine = oblique_affine()
    with tempfile.TemporaryDirectory() as folder:
        found = predicted(Path(folder), affine, order, flips, method=method)
    np.testing.assert_array_equal(found, straight(affine, method))


@examples(15)
@given(
    spacing=st.tuples(st.floats(0.3, 4), st.floats(0.3, 4), st.floats(4.5, 30)),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    flips=FLIPS,
    shape=st.tuples(st.integers(14, 20), st.integers(14, 20), st.integers(1, 4)),
)
def test_the_output_lies_on_the_input_grid(spacing, origin, flips, shape):
    affine = oblique_affine(spacing, flips=flips, origin_mm=origin)
    with tempfile.TemporaryDirectory() as folder:
        found = predicted(Path(folder), affine, (0, 1, 2), (1, 1, 1), shape=shape)
    label = ventricle(shape)
    assert set(np.unique(found[label == 0])) <= {0}
    assert (found[label > 0] > 0).all()


# What JSON can hold, with the manifest's own words among its texts.
WORDS = st.sampled_from(
    [
        *("modality", "labels", "training", "test", "id", "image", "region", "label", "rule", "lv", "0", "1"),
        *(
            "LGE",
            "T2",
            "blood",
            "scar",
            "background",
            "file",
            "frame",
            "patient",
            "a.nii",
            "../a",
            "/a",
            "s1",
        ),
    ]
)
TEXTS = WORDS | st.text(max_size=8)
NUMBERS = st.integers() | st.floats() | st.booleans() | st.none()
VALUES = st.recursive(
    TEXTS | NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)
STUDIES = st.lists(
    st.fixed_dictionaries({"id": TEXTS}, optional={"image": VALUES, "region": VALUES, "label": VALUES}),
    max_size=3,
)
MANIFESTS = st.fixed_dictionaries(
    {"modality": st.just({"0": "LGE", "1": "T2"}) | VALUES, "test": STUDIES | VALUES},
    optional={"labels": VALUES, "training": STUDIES, "name": VALUES},
)


def assert_message(error):
    """Every problem says what; its text is of plain lines."""
    assert error.problems
    for problem in error.problems:
        assert problem.what
        assert all(line == printable(line) for line in str(problem).split("\n"))


@examples(200)
@given(content=VALUES | MANIFESTS)
def test_a_manifest_is_read_or_refused(tmp_path, content):
    path = tmp_path / "m.json"
    path.write_text(json.dumps(content))
    try:
        cohort = read_manifest(path)
    except InputError as error:
        assert_message(error)
        return
    for study in cohort.split("all"):
        assert check_study_id(study.id) is None
        for file in study.images.values():
            assert file.resolve().is_relative_to(tmp_path.resolve())


@examples(200)
@given(content=st.text(alphabet='{}[]":,0123456789eE.-+ntfu\\ab', max_size=60) | st.binary(max_size=60))
def test_any_bytes_as_a_manifest(tmp_path, content):
    path = tmp_path / "m.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_manifest(path)
    assert_message(caught.value)


FIELDS = st.sampled_from(
    ["epochs", "crop_mm", "sequences", "objective", "seed", "spacing_mm", "version", "x"]
)


@examples(200)
@given(st.lists(st.tuples(FIELDS, st.text(alphabet=string.printable, max_size=20)), max_size=3))
def test_a_setting_is_taken_or_refused(overrides):
    try:
        config = make_config("default", [f"{key}={value}" for key, value in overrides])
    except InputError as error:
        assert_message(error)
        return
    assert config == type(config).model_validate(config.model_dump())


@examples(200)
@given(st.sampled_from(list(PRESETS)), st.text(alphabet=string.printable, max_size=30), st.integers(0, 2000))
def test_a_configuration_with_something_in_it(tmp_path, preset, piece, place):
    path = tmp_path / "config.yaml"
    text = dump_config(make_config(preset))
    path.write_text(text[: place % len(text)] + piece + text[place % len(text) :])
    try:
        load_config(path)
    except InputError as error:
        assert_message(error)


@examples(200)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
    )
)
def test_a_header_of_any_bytes(tmp_path, changes):
    """It is refused, or gives a volume of the shape that it says, on a grid with a volume."""
    path = tmp_path / "a.nii"
    if not path.exists():
        save_nifti(path, intensities(ventricle(), "LGE"), oblique_affine())
    raw = bytearray(path.read_bytes())
    for offset, new in changes:
        raw[offset : offset + len(new)] = new[: 352 - offset]
    other = tmp_path / "b.nii"
    other.write_bytes(raw)
    try:
        volume = read_image(other, study="s", role="LGE")
    except InputError as error:
        assert_message(error)
        return
    assert volume.data.shape == volume.grid.shape
    assert np.isfinite(volume.data).all()
    assert volume.grid.voxel_volume_ml > 0
