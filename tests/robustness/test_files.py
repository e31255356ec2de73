"""Files that are no NIfTI files, damaged ones, and sound ones that look odd."""

import gzip
import os
import struct

import nibabel as nib
import numpy as np
import pytest

from ..conftest import oblique_affine
from .cases import FIELDS, StudyCase, as_bytes, assert_study_case, identified, patched, rewritten, with_data

NOT = "file is not a NIfTI file"
DAMAGED = "file is damaged or cannot be read"


def renamed(role, name, change=lambda content: content):
    def spoil(place):
        content = change(place.file(role).read_bytes())
        place.bad["image"][role] = name
        place.file(role).write_bytes(content)

    return spoil


def pair(place):
    nib.save(nib.Nifti1Pair(place.data("T2"), oblique_affine()), place.folder / "bad_t2.img")
    place.bad["image"]["T2"] = "bad_t2.hdr"


def folder(place):
    place.file("T2").unlink()
    place.file("T2").mkdir()


def fifo(place):
    place.file("T2").unlink()
    os.mkfifo(place.file("T2"))


def members(place):
    raw = gzip.decompress(place.file("LGE").read_bytes())
    place.file("LGE").write_bytes(gzip.compress(raw[:1000]) + gzip.compress(raw[1000:]) + b"\0" * 512)


def big_endian(place):
    header = nib.Nifti1Header(endianness=">")
    header.set_xyzt_units("mm")
    image = nib.Nifti1Image(place.data("LGE").astype(">f4"), oblique_affine(), header)
    nib.save(image, place.file("LGE"))


def extended(place):
    image = nib.load(place.file("LGE"))
    image = nib.Nifti1Image(place.data("LGE"), image.affine, image.header)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 1000))
    nib.save(image, place.file("LGE"))


def cut(place):
    whole = place.file("T2").read_bytes()
    place.file("T2").write_bytes(whole[: len(whole) // 2])


def flipped_bit(place):
    raw = bytearray(place.file("T2").read_bytes())
    raw[len(raw) // 2] ^= 0x10
    place.file("T2").write_bytes(raw)


def wrong_checksum(place):
    raw = bytearray(place.file("T2").read_bytes())
    raw[-8] ^= 1
    place.file("T2").write_bytes(raw)


CASES = [
    StudyCase(
        "image missing",
        lambda p: p.file("T2").unlink(),
        "the T2 file does not exist",
        "T2",
        remedy="correct the path",
        commands=("files",),
    ),
    StudyCase(
        "region missing",
        lambda p: p.file("region").unlink(),
        "the region file does not exist",
        "region",
        commands=("files", "prior"),
    ),
    StudyCase("zero bytes", as_bytes("LGE", b""), NOT, "LGE", remedy="convert it", commands=("files",)),
    StudyCase("zero bytes as region", as_bytes("region", b""), NOT, "region", commands=("prior",)),
    StudyCase("zero bytes as label", as_bytes("label", b""), same=True, check=1),
    StudyCase("one byte", as_bytes("T2", b"\x1f"), NOT, "T2"),
    StudyCase("an empty gzip stream", as_bytes("T2", gzip.compress(b"")), NOT, "T2"),
    StudyCase("text", as_bytes("LGE", b"hello world"), NOT, "LGE"),
    StudyCase("an HTML error page", as_bytes("LGE", b"<!DOCTYPE html><title>404</title>" * 50), NOT, "LGE"),
    StudyCase("a Git LFS pointer", as_bytes("LGE", b"version https://git-lfs.github.com/spec/v1\n"), NOT),
    StudyCase(
        "DICOM under a NIfTI name", renamed("T2", "bad.nii", lambda _: b"\0" * 128 + b"DICM" * 99), NOT, "T2"
    ),
    StudyCase("another suffix", renamed("T2", "bad.mha"), NOT, "T2", got="'.mha'"),
    StudyCase("wrong magic", patched("T2", magic=("4s", b"abc\0")), NOT, "T2"),
    StudyCase("an Analyze header without magic", patched("T2", magic=("4s", b"\0\0\0\0")), NOT, "T2"),
    StudyCase("a pair of .hdr and .img", pair, NOT, "T2", remedy="convert"),
    StudyCase(
        "gz name, not compressed",
        renamed("LGE", "bad_x.nii.gz", gzip.decompress),
        NOT,
        "LGE",
        got="no gzip stream",
    ),
    StudyCase("nii name, compressed", renamed("LGE", "bad_x.nii"), NOT, "LGE"),
    StudyCase("truncated gzip", cut, DAMAGED, "T2", remedy="copy or convert", commands=("files",)),
    StudyCase("a flipped bit", flipped_bit, DAMAGED, "T2"),
    StudyCase("a wrong checksum", wrong_checksum, DAMAGED, "T2"),
    StudyCase("voxels end early", rewritten("bSSFP", lambda raw: raw[:-1]), DAMAGED, "bSSFP", got="Expected"),
    StudyCase("a region that ends early", rewritten("region", lambda raw: raw[:-1]), DAMAGED, "region"),
    StudyCase("header only", rewritten("T2", lambda raw: raw[:352]), DAMAGED, "T2"),
    StudyCase("header cut", rewritten("T2", lambda raw: raw[:200]), NOT, "T2"),
    StudyCase(
        "header claims 30000 x 30000 x 30000, compressed",
        patched("T2", dim=("8h", (3, 30000, 30000, 30000, 1, 1, 1, 1))),
        "T2",
        "T2",
        got="30000",
    ),
    StudyCase(
        "header claims 30000 x 30000 x 30000",
        lambda p: (
            patched("T2", dim=("8h", (3, 30000, 30000, 30000, 1, 1, 1, 1)))(p),
            renamed("T2", "bad_T2.nii", gzip.decompress)(p),
        ),
        "T2",
        "T2",
        got="30000",
    ),
    StudyCase(
        "header claims a region of 30000 x 30000 x 30000",
        patched("region", dim=("8h", (3, 30000, 30000, 30000, 1, 1, 1, 1))),
        "region",
        "region",
    ),
    StudyCase(
        "header claims 600 x 600 x 600 of 20 x 24 x 3",
        patched("T2", dim=("8h", (3, 600, 600, 600, 1, 1, 1, 1))),
        DAMAGED,
        "T2",
    ),
    StudyCase(
        "a gzip bomb of the size that its header claims",
        lambda p: p.file("T2").write_bytes(bomb(p)),
        "T2",
        "T2",
    ),
    StudyCase(
        "64 MB behind the voxels",
        rewritten("T2", lambda raw: raw + b"\0" * (64 << 20)),
        "file holds more than its header says",
        "T2",
    ),
    StudyCase(
        "header claims one slice of three, in 2 MB",
        lambda p: (
            p.volume("T2", np.ones((512, 512, 3), np.float32)),
            patched("T2", dim=("8h", (3, 512, 512, 1, 1, 1, 1, 1)))(p),
        ),
        "file holds more than its header says",
        "T2",
    ),
    StudyCase("a few bytes behind the voxels", rewritten("LGE", lambda raw: raw + b"\0" * 100), same=True),
    StudyCase("several gzip members and padding", members, same=True),
    StudyCase("NIfTI-2", with_data("LGE", np.array, nifti2=True), same=True),
    StudyCase("big endian", big_endian, same=True),
    StudyCase("a header extension", extended, same=True),
    StudyCase("not compressed", renamed("LGE", "bad_plain.nii", gzip.decompress), same=True),
    StudyCase("a folder of a NIfTI name", folder, "T2 is not a file", "T2"),
    StudyCase("a named pipe", fifo, "T2 is not a file", "T2"),
]


def bomb(place):
    """A small file of a header that claims 2 GB, and zeros that keep the promise."""
    raw = bytearray(gzip.decompress(place.file("T2").read_bytes()))[:352]
    struct.pack_into("<8h", raw, FIELDS["dim"], 3, 20000, 20000, 100, 1, 1, 1, 1)
    struct.pack_into("<2h", raw, FIELDS["datatype"], 2, 8)
    return gzip.compress(bytes(raw)) + gzip.compress(b"\0" * (16 << 20)) * 20


@pytest.mark.parametrize("case", CASES, ids=identified)
def test_files(cli, place, clean_labels, case):
    assert_study_case(case, cli, place, clean_labels)


def test_a_study_of_another_cohort_file_is_never_written_to(cli, place):
    """Inputs keep their bytes, whatever happens."""
    before = {path: path.read_bytes() for path in place.folder.iterdir()}
    as_bytes("LGE", b"hello")(place)
    before[place.file("LGE")] = b"hello"
    manifest = place.manifest()
    before[manifest] = manifest.read_bytes()
    cli("predict", manifest, "-o", place.folder, "--method", "em-gmm")
    assert {path: path.read_bytes() for path in before} == before
