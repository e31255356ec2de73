"""Tissue classes: names, ids, colours, nested regions and the id systems of the public data sets.

Every other module asks here; no class id or colour is written anywhere else.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum


@dataclass(frozen=True)
class TissueClass:
    """One tissue class: its id in our own label maps and its colour (RGB, 0 to 255)."""

    id: int
    colour: tuple[int, int, int]


BACKGROUND_ID = 0

# Colours are Okabe and Ito's, which stay apart for colour-blind readers.
TISSUES: Mapping[str, TissueClass] = {
    "blood": TissueClass(1, (86, 180, 233)),  # left-ventricular cavity
    "myocardium": TissueClass(2, (0, 158, 115)),  # normal wall
    "edema": TissueClass(3, (240, 228, 66)),  # area at risk without the scar
    "scar": TissueClass(4, (213, 94, 0)),  # infarct, microvascular obstruction included
}

# For cohorts of other organs, whose classes have names that we do not know.
_OTHER_COLOURS = ((204, 121, 167), (0, 114, 178), (230, 159, 0), (213, 94, 0))

# Parts of classes, drawn inside them.
_PART_COLOURS = {"mvo": (160, 80, 255)}

# Error maps: where prediction and reference agree on a class, and where they do not. Apart from each other,
# from scar and edema and from grey for colour-blind readers, too (tests/test_labels.py).
AGREEMENT_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "agree": (240, 240, 240),
    "false positive": (120, 80, 255),
    "false negative": (0, 200, 255),
}

# Names that a manifest's "labels" may use for ids that are no class of the mixture. "ignore": nobody has
# said what these voxels are.
AUXILIARY_NAMES = ("background", "rv_blood", "mvo", "ignore")
# Names whose ids may be ids of a class, too: microvascular obstruction is infarct.
PARTS_OF_CLASSES = ("mvo",)

# Other names of our classes in label files, as `plain_name` writes them.
CLASS_SYNONYMS: Mapping[str, str] = {
    "background": "background",
    "lv": "blood",
    "lv cavity": "blood",
    "lv blood": "blood",
    "lv blood pool": "blood",
    "blood pool": "blood",
    "cavity": "blood",
    "left ventricle": "blood",
    "myo": "myocardium",
    "lv myocardium": "myocardium",
    "normal myocardium": "myocardium",
    "healthy myocardium": "myocardium",
    "oedema": "edema",
    "infarct": "scar",
    "infarction": "scar",
    "myocardial infarction": "scar",
    # No-reflow counts as infarct.
    "mvo": "scar",
    "no reflow": "scar",
    "rv": "rv_blood",
    "rv blood": "rv_blood",
    "right ventricle": "rv_blood",
    "unlabelled": "ignore",
    "unlabeled": "ignore",
    "unknown": "ignore",
}
# Names that may mean something else in another organ: a reason to ask, not to take them for it.
_PERHAPS: Mapping[str, str] = {
    "bp": "blood",
    "bloodpool": "blood",
    "lvbp": "blood",
    "lvc": "blood",
    "endo": "blood",
    "lvm": "myocardium",
    "lvmyo": "myocardium",
    "myocard": "myocardium",
    "lv wall": "myocardium",
    "area at risk": "edema",
    "aar": "edema",
    "fibrosis": "scar",
    "necrosis": "scar",
    "mi": "scar",
}

# Sequences that the package knows, in the order of channels; others keep the names that they are given.
SEQUENCES = ("LGE", "T2", "bSSFP")

CAVITY_CLASSES = ("blood",)
# Density of myocardium: 1.05 g/ml, the usual rounding in cardiac MR (SCMR consensus on post-processing).
MYOCARDIUM_G_PER_ML = 1.05
# The sequence that shows a class; without it the others only hint at it.
KEY_SEQUENCES: Mapping[str, str] = {"scar": "LGE", "edema": "T2"}
# Evaluated beside the classes. Order: from the largest to the smallest.
NESTED_REGIONS: Mapping[str, tuple[str, ...]] = {
    "wall": ("myocardium", "edema", "scar"),
    "pathology": ("edema", "scar"),
}

# Region maps in files: 0 outside; either 1 = left ventricle, or 1 = cavity and 2 = wall (docs/data.md).
REGION_FILE_IDS = (0, 1, 2)


class Region(IntEnum):
    """Region codes inside the program: a file's 1 becomes `LV` or `CAVITY`, whichever it means."""

    OUTSIDE = 0
    LV = 1  # cavity or wall, not told apart
    WALL = 2
    CAVITY = 3


# Id systems of public data sets: class name -> ids in their files.
SCHEMES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "mrigmm": {"background": (0,)} | {name: (t.id,) for name, t in TISSUES.items()},
    "myops": {
        "background": (0,),
        "blood": (500,),
        "myocardium": (200,),
        "edema": (1220,),
        "scar": (2221,),
        "rv_blood": (600,),
    },
    # 4 is no-reflow (microvascular obstruction), which counts as infarct.
    "emidec": {"background": (0,), "blood": (1,), "myocardium": (2,), "scar": (3, 4), "mvo": (4,)},
    "myosaiq": {"background": (0,), "blood": (1,), "myocardium": (2,), "scar": (3, 4), "mvo": (4,)},
    # Here and below the wall is one class, diseased or not.
    "mscmr": {"background": (0,), "blood": (500,), "myocardium": (200,), "rv_blood": (600,)},
    "acdc": {"background": (0,), "blood": (3,), "myocardium": (2,), "rv_blood": (1,)},
    "sunnybrook": {"background": (0,), "blood": (1,), "myocardium": (2,)},
}


def class_ids(classes: Sequence[str]) -> dict[str, int]:
    """Ids that the named classes get in our own label maps.

    Known tissues keep their fixed id whatever the selection, so that "scar" is 4 in every file that
    this package writes. Classes of other organs are numbered from 1 in the order given.
    """
    if all(name in TISSUES for name in classes):
        return {name: TISSUES[name].id for name in classes}
    return {name: index for index, name in enumerate(classes, start=1)}


def scheme_ids(scheme: str, classes: Sequence[str]) -> dict[str, int]:
    """Ids under which one of `SCHEMES` writes the named classes.

    A tissue of the wall that the scheme does not tell apart is its myocardium, as in the files of those
    data sets; where the scheme numbers parts of a class, the class has the id of the rest of it.

    Returns:
        Class name -> id; classes that the scheme has no place for are left out.
    """
    known = SCHEMES[scheme]
    parts = {i for name in PARTS_OF_CLASSES for i in known.get(name, ())}
    ids = {}
    for name in classes:
        written_as = "myocardium" if name not in known and name in NESTED_REGIONS["wall"] else name
        if written_as in known:
            ids[name] = next(i for i in known[written_as] if i not in parts)
    return ids


@dataclass(frozen=True)
class ComparedClass:
    """A class that prediction and reference share, and the classes of either that count as it."""

    predicted: tuple[str, ...]
    reference: tuple[str, ...]

    def union(self, other: ComparedClass) -> ComparedClass:
        """Return what counts as the class in either of two studies."""
        return ComparedClass(
            tuple(dict.fromkeys((*self.predicted, *other.predicted))),
            tuple(dict.fromkeys((*self.reference, *other.reference))),
        )

    def with_others(self, name: str) -> str:
        """Return how a table names the class where classes of other names count as it."""
        others = [o for o in dict.fromkeys((*self.predicted, *self.reference)) if o != name]
        return f"{name} (with {', '.join(others)})" if others else name


def compared_classes(
    predicted: Sequence[str], reference: Sequence[str], *others: Sequence[str]
) -> dict[str, ComparedClass]:
    """The classes that a prediction and a reference share, by name.

    A tissue of the wall that not all of them tell apart is part of what the others call myocardium, as in
    `scheme_ids`, and counts as it.

    Args:
        predicted: classes of the prediction.
        reference: classes of the reference.
        others: classes of further predictions that are to be compared in the same way.

    Examples:
        >>> compared_classes(("myocardium", "edema", "scar"), ("myocardium", "scar"))["myocardium"].predicted
        ('myocardium', 'edema')
    """
    shared = [name for name in reference if all(name in known for known in (predicted, *others))]
    found = {name: ComparedClass((name,), (name,)) for name in shared}
    if "myocardium" in found:
        in_wall = [name for name in NESTED_REGIONS["wall"] if name == "myocardium" or name not in shared]
        found["myocardium"] = ComparedClass(
            *(tuple(name for name in in_wall if name in known) for known in (predicted, reference))
        )
    return found


def merged_ids(
    ids: Mapping[str, Sequence[int]], compared: Mapping[str, ComparedClass]
) -> dict[str, tuple[int, ...]]:
    """Ids of a reference by name, of a compared class those of all that count as it."""
    own = {name: tuple(found) for name, found in ids.items()}
    return own | {name: tuple(i for n in c.reference for i in own[n]) for name, c in compared.items()}


def plain_name(name: str) -> str:
    """A name in lower case, with one space between words."""
    return " ".join(re.split(r"[\s_-]+", name.strip().lower()))


def meant_class(name: str) -> str | None:
    """The class of ours that another name probably means: a synonym, or our own name written otherwise.

    Examples:
        >>> meant_class("oedema"), meant_class("Scar"), meant_class("scar"), meant_class("grey matter")
        ('edema', 'scar', None, None)
    """
    known = (*TISSUES, *AUXILIARY_NAMES)
    if name in known:
        return None
    plain = plain_name(name)
    synonyms = {**CLASS_SYNONYMS, **_PERHAPS, **{plain_name(own): own for own in known}}
    close = get_close_matches(plain, list(TISSUES), n=1, cutoff=0.8)
    return synonyms.get(plain) or (close[0] if close else None)


def class_colours(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Display colour (RGB, 0 to 255) of each class; unknown names take from a spare palette in turn."""
    known = {name: tissue.colour for name, tissue in TISSUES.items()} | _PART_COLOURS
    spare = [name for name in classes if name not in known]
    return {
        name: known[name] if name in known else _OTHER_COLOURS[spare.index(name) % len(_OTHER_COLOURS)]
        for name in classes
    }


def segment_colours(k: int) -> tuple[tuple[int, int, int], ...]:
    """Display colours (RGB, 0 to 255) of k segments without names, all different, neighbours far apart."""
    golden = 0.618  # of the hue circle: later hues fall between the earlier ones
    colours = []
    for index in range(k):
        saturation, value = ((0.75, 0.95), (0.95, 0.65), (0.4, 1.0))[index % 3]
        rgb = colorsys.hsv_to_rgb(index * golden % 1, saturation, value)
        colours.append((round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])))
    return tuple(colours)


def nested_regions(classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Nested regions that can be formed from the given classes, with the members that are present.

    A region is listed when at least two of its classes are present: with fewer it repeats a class.
    """
    present = {
        name: tuple(member for member in members if member in classes)
        for name, members in NESTED_REGIONS.items()
    }
    return {name: members for name, members in present.items() if len(members) > 1}


def of_the_ventricle(classes: Sequence[str]) -> bool:
    """Return whether all classes are tissues of the left ventricle, each of cavity or wall."""
    return all(name in TISSUES for name in classes)


def wall_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that occur in the wall."""
    return tuple(name for name in classes if name not in CAVITY_CLASSES)


def allowed_classes(classes: Sequence[str]) -> tuple[tuple[bool, ...], ...]:
    """Anatomy constraint: which classes each region code allows.

    Blood is allowed in the cavity only and the other tissues in the wall only; everything is allowed
    in an undivided left ventricle, and everywhere for classes of other organs.

    Args:
        classes: the K class names of the mixture.

    Returns:
        One row of K flags per `Region` code.
    """
    everything = (True,) * len(classes)
    if not of_the_ventricle(classes):
        return (everything,) * len(Region)
    cavity = tuple(name in CAVITY_CLASSES for name in classes)
    rows = {
        Region.OUTSIDE: everything,
        Region.LV: everything,
        Region.WALL: tuple(not flag for flag in cavity),
        Region.CAVITY: cavity,
    }
    return tuple(rows[code] for code in Region)


_METRICS_IN_WORDS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "hd95_3d_mm": "HD95 in 3-D (mm)",
    "nsd_2mm": "NSD at 2 mm",
    "nsd_3d_2mm": "NSD in 3-D at 2 mm",
}
_ABBREVIATIONS = ("lv", "mvo")


def in_words(name: str) -> str:
    """Return how people read the name of a metric or a quantity, with its unit.

    Examples:
        >>> in_words("infarct_percent_of_lv_mass"), in_words("lv_cavity_ml"), in_words("hd95_mm")
        ('infarct (% of LV mass)', 'LV cavity (ml)', 'HD95 (mm)')
    """
    if name in _METRICS_IN_WORDS:
        return _METRICS_IN_WORDS[name]
    what, share, whole = name.partition("_percent_of_")
    stem, _, unit = name.rpartition("_")
    if share:
        text = f"{what} (% of {whole})"
    elif stem and unit in ("ml", "mm", "g"):
        text = f"{stem} ({unit})"
    else:
        text = name
    words = text.replace("_", " ")
    return re.sub(rf"\b({'|'.join(_ABBREVIATIONS)})\b", lambda found: found[0].upper(), words)


# Output classes of the pretrained segmenter, in the order of its logits; scar and mvo together are infarct.
SEGMENTER_CLASSES = ("background", "blood", "myocardium", "edema", "scar", "mvo", "rv")

_WALL_OF_SEGMENTER = ("myocardium", "edema", "scar", "mvo")
# Classes of the segmenter that each code of a region allows.
REGION_CLASSES: Mapping[Region, tuple[str, ...]] = {
    Region.OUTSIDE: ("background", "rv"),
    Region.LV: ("blood", *_WALL_OF_SEGMENTER),
    Region.CAVITY: ("blood",),
    Region.WALL: _WALL_OF_SEGMENTER,
}


def class_set(names: Iterable[str]) -> int:
    """Return a set of `SEGMENTER_CLASSES` as a number: bit k stands for the class at position k."""
    return sum(1 << SEGMENTER_CLASSES.index(name) for name in set(names))


ANY_CLASS = class_set(SEGMENTER_CLASSES)  # nothing is known


def label_sets(labels: Mapping[str, Sequence[int]]) -> dict[int, int]:
    """Which classes a voxel of a reference label may be of, as `class_set`, by the voxel's id.

    A tissue of the wall that the labels do not tell apart is part of their myocardium, and of the background
    where they have none; whatever else they do not tell apart is part of the background. Scar holds
    microvascular obstruction unless the labels number it. Names of other things say nothing.

    Args:
        labels: class name -> ids in the files.

    Examples:
        >>> label_sets({"background": (0,), "scar": (4,)})[4] == class_set(("scar", "mvo"))
        True
    """
    told = {name for name, ids in labels.items() if ids}
    parts = {
        "blood": {"blood"},
        "myocardium": {"myocardium"},
        "edema": {"edema"},
        "scar": {"scar"} if "mvo" in told else {"scar", "mvo"},
        "mvo": {"mvo"},
        "rv_blood": {"rv"},
    }
    if "edema" not in told:
        parts["myocardium"] |= {"edema"}
    if "scar" not in told:
        parts["myocardium"] |= {"scar"} | ({"mvo"} - told)
    named = {name: parts[name] for name in parts if name in told}
    rest = {*SEGMENTER_CLASSES}.difference(*named.values())
    sets = {i: class_set(rest) for i in labels.get("background", ())}
    for name in labels:
        if name != "background":
            meant = class_set(named[name]) if name in named else ANY_CLASS
            sets |= dict.fromkeys(labels[name], meant)
    return sets | {i: class_set(("mvo",)) for i in labels.get("mvo", ())}
