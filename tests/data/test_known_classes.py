"""What label maps, region maps and scribbles say of a voxel."""

from typing import NamedTuple

import numpy as np

from mrigmm.data.known_classes import has_labels, known_classes
from mrigmm.data.manifest_file import read_manifest
from mrigmm.data.study import read_sequences
from mrigmm.data.whole import load_whole
from mrigmm.labels import ANY_CLASS, Region, class_set
from tests.conftest import ventricle

OUTSIDE = class_set(("background", "rv"))
BLOOD, INFARCT = class_set(("blood",)), class_set(("scar", "mvo"))
WALL = class_set(("myocardium", "edema", "scar", "mvo"))


def known(workshop, entry, **changes):
    manifest = read_manifest(workshop.manifest([], training=[entry], **changes))
    [study] = manifest.split("training")
    images = read_sequences(study, manifest.sequences, manifest.labels)
    whole = load_whole(study, manifest.sequences, manifest.labels, images=images)
    found = known_classes(study, whole, images, "LGE", manifest.labels)
    # Back in the order of the files.
    order = [None if maps is None else whole.to_input_grid(maps[None])[0] for maps in vars(found).values()]
    return study, KnownInFiles(*order)


class KnownInFiles(NamedTuple):
    """What is known, in the order of the files."""

    sets: np.ndarray
    region: np.ndarray | None

    @property
    def slices(self):
        return (self.sets != ANY_CLASS).any(axis=(0, 1))


def relabelled(workshop, entry, change, *, name="new_label.nii.gz", key="label"):
    label = ventricle()
    change(label)
    workshop.volume(name, label)
    return {**entry, key: name}


def test_a_whole_label_map_and_its_region(workshop):
    entry = {**workshop.study(), "region": None}
    study, found = known(workshop, entry)
    label = ventricle()
    assert has_labels(study)
    sets = found.sets
    assert set(np.unique(sets[label == 0])) == {OUTSIDE}
    assert set(np.unique(sets[label == 1])) == {BLOOD}
    assert set(np.unique(sets[label == 4])) == {INFARCT}
    region = found.region
    assert (region == np.where(label == 1, Region.CAVITY, np.where(label > 0, Region.WALL, 0))).all()


def test_a_slice_without_any_label_is_not_labelled(workshop):
    def empty_first(label):
        label[..., 0] = 0

    entry = relabelled(workshop, {**workshop.study(), "region": None}, empty_first)
    _, found = known(workshop, entry)
    assert found.slices.tolist() == [False, True, True]
    # Of scar alone, an empty slice says that there is none.
    _, found = known(workshop, entry, labels={"background": [0, 1, 2, 3], "scar": 4})
    assert found.slices.all()
    assert found.region is None
    assert not (found.sets & class_set(("scar",)))[..., 0].any()


def test_voxels_to_ignore_are_open_and_leave_no_region(workshop):
    def strokes(label):
        label[4:] = 9

    entry = relabelled(workshop, {**workshop.study(), "region": None}, strokes)
    labels = {"background": 0, "blood": 1, "myocardium": 2, "edema": 3, "scar": 4, "ignore": 9}
    _, found = known(workshop, entry, labels=labels)
    assert found.region is None
    assert (found.sets[4:] == ANY_CLASS).all()
    assert (found.sets[:4] != ANY_CLASS).any()


def test_a_region_map_narrows_what_scar_alone_leaves_open(workshop):
    entry = workshop.study(region="cavity-wall")
    _, found = known(workshop, entry, labels={"background": [0, 1, 2, 3], "scar": 4})
    label = ventricle()
    assert set(np.unique(found.sets[label == 2])) == {class_set(("myocardium", "edema"))}
    assert set(np.unique(found.sets[label == 1])) == {BLOOD}
    assert set(np.unique(found.sets[label == 4])) == {INFARCT}


def test_a_region_map_or_scribbles_alone(workshop):
    entry = workshop.study(region="cavity-wall")
    del entry["label"]
    study, found = known(workshop, entry)
    assert has_labels(study)
    assert set(np.unique(found.sets)) == {OUTSIDE, BLOOD, WALL}

    strokes = np.zeros_like(ventricle())
    strokes[7, 7, 1], strokes[2:4, 7, 1] = 1, 4
    workshop.volume("strokes.nii.gz", strokes)
    entry = {**entry, "region": None, "scribbles": "strokes.nii.gz"}
    study, found = known(workshop, entry)
    assert has_labels(study)
    assert found.slices.tolist() == [False, True, False]
    assert int((found.sets == INFARCT).sum()) == 2
    assert int((found.sets != ANY_CLASS).sum()) == 3
    bare = {name: value for name, value in entry.items() if name != "scribbles"}
    assert not has_labels(known(workshop, bare)[0])
