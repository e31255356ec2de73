"""Disks that are full, folders that are read-only, files that may not be read, things in the way."""

import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from .cases import assert_clean, assert_nothing_half, messages

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


@contextmanager
def file_size_limit(n_bytes):
    """The system refuses to let a file grow further: what a full disk does to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("n_bytes", [0, 100, 600, 1500])
def test_a_full_disk(cli, place, n_bytes):
    """Wherever in a study the disk is full: an error, and no part of a result."""
    manifest = place.manifest()
    with file_size_limit(n_bytes):
        result = cli("predict", manifest, "-o", place.out, "--method", "em-gmm", "--save-probabilities")
    assert_clean(result, 2)
    assert "the output cannot be written" in result.err
    assert "File too large" in result.err
    assert_nothing_half(place.out, ())


@pytest.mark.parametrize("command", ["prior", "manifest", "evaluate", "report", "segment-image"])
def test_a_full_disk_of_the_other_commands(cli, place, command):
    manifest = place.manifest()
    assert_clean(cli("predict", manifest, "-o", place.out, "--method", "em-gmm"), 0)
    target = place.out.parent / ("made.png" if command == "segment-image" else "made.json")
    Image.effect_noise((40, 40), 50).save(place.folder / "photo.png")
    arguments = {
        "prior": [manifest, "-o", target, "--split", "test"],
        "manifest": ["files", place.folder, "-o", target, "--image", "LGE={id}_LGE.nii.gz"],
        "evaluate": [place.out, manifest, "-o", target],
        "report": [place.out, "-o", target],
        "segment-image": [place.folder / "photo.png", "-o", target, "--method", "em-gmm"],
    }[command]
    with file_size_limit(20):
        result = cli(command, *arguments)
    assert_clean(result, 2)
    assert "the output cannot be written" in result.err
    assert not target.exists()
    assert not list(target.parent.rglob(".partial-*"))


WRITERS = {
    "simulate": ["--studies", "1", "--seed", "1", "--preset", "small"],
    "predict": ["--method", "em-gmm"],
    "prior": ["--split", "test"],
}


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("where", ["/proc/mrigmm", "/dev/null/x"])
def test_a_place_where_nobody_can_write(cli, place, command, where):
    first = [] if command == "simulate" else [place.manifest()]
    result = cli(command, *first, "-o", where, *WRITERS[command])
    assert_clean(result, 2)
    assert where in result.err


@NOT_ROOT
def test_a_read_only_folder(cli, place):
    place.out.mkdir()
    place.out.chmod(0o500)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm")
    assert_clean(result, 2)
    assert "Permission denied" in result.err


@NOT_ROOT
def test_a_file_that_may_not_be_read(cli, place):
    place.file("T2").chmod(0)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm")
    assert_clean(result, 2)
    assert_nothing_half(place.out, ("good",))


def refuse(monkeypatch, path, method, error):
    """The system refuses one file, as it refuses a file of somebody else."""
    original = getattr(Path, method)

    def refusing(self, *arguments, **options):
        if self == path:
            raise error
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, method, refusing)


@pytest.mark.parametrize("role", ["LGE", "region"])
@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")]
)
def test_an_unreadable_file(cli, place, monkeypatch, role, error):
    refuse(monkeypatch, place.file(role), "open", error)
    result = cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm")
    assert_clean(result, 2)
    (message,) = messages(result.err)
    assert (message["study"], message["file"]) == ("bad", str(place.file(role)))
    assert error.strerror in message["got"]
    assert_nothing_half(place.out, ("good",))


@pytest.mark.parametrize("command", ["predict", "check", "prior"])
def test_an_unreadable_manifest(cli, place, monkeypatch, command):
    manifest = place.manifest()
    refuse(monkeypatch, manifest, "read_text", PermissionError(13, "Permission denied"))
    options = {"predict": ["-o", place.out, "--method", "em-gmm"], "check": [], "prior": ["-o", place.out]}
    result = cli(command, manifest, *options[command])
    assert_clean(result, 1 if command == "check" else 2)
    assert "the manifest cannot be read" in result.out + result.err


@pytest.mark.parametrize("name", ["bad_labels.nii.gz", "bad.json"])
def test_a_folder_where_a_result_belongs(cli, place, name):
    (place.out / name / "mine").mkdir(parents=True)
    options = ["-o", place.out, "--method", "em-gmm", "--overwrite"]
    result = cli("predict", place.manifest(), *options)
    assert_clean(result, 2)
    assert (place.out / name / "mine").is_dir()
    assert (place.out / "good_labels.nii.gz").exists()


@pytest.mark.parametrize("name", ["bad_labels.nii.gz", "bad.json", "labels_itksnap.txt"])
def test_a_link_where_a_result_belongs(cli, place, name):
    """A link in the output folder leads nowhere: it is replaced, and what it named keeps its bytes."""
    precious = place.out.parent / "precious"
    precious.write_text("mine")
    place.out.mkdir()
    (place.out / name).symlink_to(precious)
    assert_clean(cli("predict", place.manifest(), "-o", place.out, "--method", "em-gmm", "--overwrite"), 0)
    assert precious.read_text() == "mine"
    assert not (place.out / name).is_symlink()


@pytest.mark.parametrize("command", ["manifest", "check"])
def test_links_in_a_circle(cli, place, command):
    (place.folder / "loop").symlink_to(place.folder)
    (place.folder / "a").symlink_to("b")
    (place.folder / "b").symlink_to("a")
    target = place.out.parent / "m.json"
    if command == "check":
        assert_clean(cli("check", place.folder / "a"), 2)
        return
    result = cli("manifest", "files", place.folder, "-o", target, "--image", "LGE={id}_LGE.nii.gz", "--quiet")
    assert_clean(result, 0)
    assert target.exists()
