"""nnU-Net raw data: `dataset.json`, `imagesTr`, `labelsTr`, `imagesTs` (and `labelsTs`), both versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from mrigmm.data.sources.base import LABEL, NIFTI, Cohort, Folder, Kind, Options, assign, simple_entries
from mrigmm.data.sources.names import labels_of, require_known, sequence_name
from mrigmm.errors import InputError
from mrigmm.labels import SEQUENCES

_LAYOUT = "dataset.json"


def read(folder: Folder, options: Options) -> Cohort:
    """Studies with the channels and label ids that `dataset.json` names."""
    found = [file for file in folder.files if file.split("/")[-1] == _LAYOUT and file.count("/") <= 1]
    if len(found) != 1:
        raise InputError(
            "the folder is not one nnU-Net data set",
            file=folder.root,
            expected=f"one {_LAYOUT}",
            got=", ".join(found) or folder.describe(),
            remedy="give the folder DatasetNNN_Name",
        )
    content = _content(folder, found[0])
    channels = {int(key): str(name) for key, name in content["channels"].items()}
    pairs = [] if options.labels else list(_label_pairs(folder, found[0], content["labels"]))
    require_known(options.rename, [*channels.values(), *(name for name, _ in pairs)])
    sequences = {key: sequence_name(name, options.rename) for key, name in sorted(channels.items())}
    if len(set(sequences.values())) < len(sequences):
        raise InputError(
            "two channels have one name",
            file=folder.root / found[0],
            got=", ".join(f"{channels[key]} as {name}" for key, name in sequences.items()),
            remedy="name them with --rename OLD=NEW",
        )
    studies, problems = assign(
        folder,
        list(_files(folder, found[0].removesuffix(_LAYOUT), sequences)),
        looked_for=("imagesTr/NAME_0000.nii.gz", "labelsTr/NAME.nii.gz", "imagesTs/NAME_0000.nii.gz"),
    )
    entries = simple_entries(
        studies, split=lambda _study, file: "test" if file.rsplit("/", 2)[-2].endswith("Ts") else "training"
    )
    notes = [
        f"the channel '{name}' keeps its name; the shipped prior knows LGE, T2 and bSSFP (--rename)"
        for name in sequences.values()
        if name not in SEQUENCES
    ]
    labels = options.labels or labels_of(pairs, options.rename)
    return Cohort(tuple(sequences.values()), labels, entries, tuple(notes), problems=problems)


def dataset_labels(folder: Folder, file: str) -> dict[str, list[int]]:
    """Class name -> ids by a `dataset.json`, as nnU-Net lays it beside predictions; raises InputError."""
    return labels_of(_label_pairs(folder, file, _content(folder, file)["labels"]), {})


def _content(folder: Folder, file: str) -> dict[str, Any]:
    """Channels and labels of `dataset.json`, whose keys differ between the versions."""
    try:
        content = json.loads(folder.text(file))
        channels = content.get("channel_names", content.get("modality"))
        ending = str(content.get("file_ending", ".nii.gz"))
        if not (isinstance(channels, dict) and channels and all(key.isdecimal() for key in channels)):
            raise ValueError("channel_names: expected numbers and names of the channels")
        if not isinstance(content.get("labels"), dict):
            raise ValueError("labels: expected names and ids of the classes")
        if not re.fullmatch(NIFTI, ending):
            raise ValueError(f"file_ending: expected .nii or .nii.gz, got {ending}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"the {_LAYOUT} cannot be used", file=folder.root / file, got=str(error)) from None
    return {"channels": channels, "labels": content["labels"]}


def _label_pairs(folder: Folder, file: str, labels: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """(name, id) of every label; in version 1 the ids are the keys."""
    if all(key.isdecimal() for key in labels):
        labels = {str(name): int(key) for key, name in labels.items()}
    seen: set[int] = set()
    for name, value in labels.items():
        ids = value if isinstance(value, list) else [value]
        if not all(type(i) is int for i in ids) or seen & set(ids):
            raise InputError(
                "the labels are regions that overlap, or have no ids",
                file=folder.root / file,
                got=json.dumps({name: value}),
                remedy="give the classes and their ids with --labels blood=1,myocardium=2,scar=3+4",
            )
        seen |= set(ids)
        yield from ((name, i) for i in ids)


def _files(folder: Folder, prefix: str, sequences: dict[int, str]) -> Iterator[tuple[str, str, str]]:
    """(study, role, file) of images and labels."""
    image = re.compile(rf"{re.escape(prefix)}images(?:Tr|Ts)/(?P<id>[^/]+)_(?P<channel>\d{{4}}){NIFTI}")
    label = re.compile(rf"{re.escape(prefix)}labels(?:Tr|Ts)/(?P<id>[^/]+?){NIFTI}")
    for file in folder.files:
        if match := image.fullmatch(file):
            channel = int(match["channel"])
            if channel not in sequences:
                raise InputError(
                    "the file has a channel that dataset.json does not name",
                    study=match["id"],
                    file=folder.root / file,
                    expected=", ".join(f"{key:04d} ({name})" for key, name in sequences.items()),
                    got=match["channel"],
                )
            yield match["id"], sequences[channel], file
        elif match := label.fullmatch(file):
            yield match["id"], LABEL, file


KIND = Kind(None, read, ("rename",), mark=r"(?:[^/]+/)?dataset\.json")
