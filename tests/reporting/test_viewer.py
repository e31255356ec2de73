import gzip
import hashlib
import io
import re
from importlib.resources import files

import nibabel as nib
import numpy as np

from mrigmm.reporting.viewer import viewer_classes, viewer_study

VENDOR = files("mrigmm.reporting").joinpath("vendor/niivue")


def read(file):
    return nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(file)))


def test_a_study_is_cropped_around_its_labels():
    """Labels on 10 x 6 x 2 voxels of 1.5 x 2 x 8 mm; 12 mm are 8 and 6 voxels."""
    labels = np.zeros((60, 50, 5), np.uint8)
    labels[20:30, 22:28, 1:3] = 4
    image = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    study = viewer_study({"LGE": image}, labels, spacing_mm=(1.5, 2.0, 8.0), numbers=[5, 4, 3, 2, 1])
    assert study.numbers == (4, 3)
    shown, mask = read(study.sequences["LGE"]), read(study.labels)
    assert shown.shape == mask.shape == (6 + 12, 10 + 16, 2)  # to the right, up
    np.testing.assert_allclose(shown.header.get_zooms(), (2.0, 1.5, 8.0))
    np.testing.assert_array_equal(np.asarray(mask.dataobj).swapaxes(0, 1)[::-1], labels[12:38, 16:34, 1:3])
    np.testing.assert_allclose(shown.affine, mask.affine)
    grey = np.asarray(shown.dataobj).swapaxes(0, 1)[::-1]
    assert (grey.dtype, grey.min(), grey.max()) == (np.uint8, 0, 255)
    order = np.argsort(image[12:38, 16:34, 1:3], axis=None)
    assert (np.diff(grey.ravel()[order].astype(int)) >= 0).all()


def test_a_study_without_labels_is_shown_whole():
    study = viewer_study(
        {"LGE": np.zeros((9, 8, 3), np.float32)},
        np.zeros((9, 8, 3), np.uint8),
        spacing_mm=(1, 1, 8),
        numbers=[1, 2, 3],
    )
    assert (study.numbers, read(study.labels).shape) == ((1, 2, 3), (8, 9, 3))


def test_a_large_study_takes_little():
    """512 x 512 x 20 voxels of noise, three sequences, a ventricle 80 mm across."""
    rng = np.random.default_rng(0)
    labels = np.zeros((512, 512, 20), np.uint8)
    labels[200:314, 200:314, 4:16] = 1  # 0.7 mm
    images = {name: rng.normal(size=labels.shape).astype(np.float32) for name in ("LGE", "T2", "bSSFP")}
    study = viewer_study(images, labels, spacing_mm=(0.7, 0.7, 8.0), numbers=range(1, 21)).as_json()
    assert sum(len(part["data"]) for part in study["sequences"]) + len(study["labels"]) < 4_000_000


def test_the_classes_have_the_colours_of_the_one_table():
    assert viewer_classes({"scar": 4}) == [{"name": "scar", "id": 4, "colour": (213, 94, 0)}]


def test_the_vendored_viewer_is_the_one_that_its_page_tells_of():
    told = re.search(r"sha256: `(\w+)`", VENDOR.joinpath("README.md").read_text())[1]
    assert hashlib.sha256(VENDOR.joinpath("niivue.umd.js").read_bytes()).hexdigest() == told
    assert "BSD 2-Clause" in VENDOR.joinpath("LICENSE").read_text()
    assert VENDOR.joinpath("LICENSES_OF_PARTS").read_text().count("====") == 2 * 9


def test_the_scripts_can_stand_inside_a_page():
    """Nothing in them ends the element that they stand in, or loads anything."""
    for path in ("vendor/niivue/niivue.umd.js", "templates/viewer.js", "templates/report.js"):
        text = files("mrigmm.reporting").joinpath(path).read_text()
        assert not re.search(r"</script|<!--", text, flags=re.IGNORECASE)
        assert "\r" not in text  # a browser would read it as another text, with another digest
