"""Studies whose files show less than a whole ventricle, or less than the reference sequence does."""

import numpy as np

import mrigmm

from ...conftest import PATIENT, SHAPE, intensities, ventricle

KIND = "parts of a study"
CHECK = "the slices of the region, and those of each sequence, with the length of adult ventricles"


def test_two_slices(workshop, tmp_path):
    """two slices, 10 mm apart -> a warning wherever they are measured, and a note beside the numbers"""
    study = workshop.study(shape=(*SHAPE[:2], 2), affine=PATIENT)
    result = mrigmm.predict(workshop.manifest([study]), tmp_path / "out", method="map-em")
    again = mrigmm.quantify(tmp_path / "out")
    masks = mrigmm.measure(workshop.folder / study["label"], tmp_path / "masks", labels="mrigmm")
    for found in (result, again, masks):
        (told,) = (p for p in found.problems if p.what == "only a part of the left ventricle is measured")
        assert (told.severity, told.got) == ("warning", "2 slices over 20 mm")
    assert '"a part of the ventricle: 2 slices' in (tmp_path / "out" / "quantities.json").read_text()


def test_a_sequence_with_a_gap(workshop, tmp_path):
    """T2 with every second slice of LGE -> segmented, and a warning about what is interpolated"""
    study = workshop.study(affine=PATIENT)
    apart = PATIENT.copy()
    apart[:3, 2] *= 2
    workshop.volume(study["image"]["T2"], intensities(ventricle(), "T2")[..., ::2], apart)
    result = mrigmm.predict(workshop.manifest([study]), tmp_path / "out", method="map-em")
    (told,) = (p for p in result.problems if "is interpolated" in p.what)
    assert told.severity == "warning"
    assert told.what.startswith("T2 has slices 20 mm apart: 33 % of the region lies more than 6 mm")
    assert np.isfinite(mrigmm.quantify(tmp_path / "out").studies["s1"]["lv_mass_g"])


def test_a_reference_of_one_slice(workshop, tmp_path):
    """a reference that labels one slice of three -> scored, with a warning by evaluate and compare"""
    study = workshop.study(affine=PATIENT)
    label = ventricle()
    label[..., 1:] = 0
    workshop.volume(study["label"], label, PATIENT)
    manifest = workshop.manifest([study])
    for method in ("map-em", "em-gmm"):
        mrigmm.predict(manifest, tmp_path / method, method=method)
    one = mrigmm.evaluate(tmp_path / "map-em", manifest)
    two = mrigmm.compare(tmp_path / "map-em", tmp_path / "em-gmm", manifest)
    for found in (one, two):
        (told,) = (p for p in found.problems if "the reference labels nothing in 2 of the 3 slices" in p.what)
        assert (told.study, told.severity) == ("s1", "warning")
