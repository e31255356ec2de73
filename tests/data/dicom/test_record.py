import pytest

from mrigmm.data.dicom.record import IMAGES, RECORD_FILE, Origin, read_record, remove_stale, write_record
from mrigmm.errors import InputError

ORIGIN = Origin("1.2", "LGE", "PSIR", ("1.2.3#1", "1.2.4"))


def test_what_is_written_is_read_back(tmp_path):
    write_record(tmp_path, {"P1_LGE.nii.gz": ORIGIN})
    assert read_record(tmp_path / RECORD_FILE) == {"P1_LGE.nii.gz": ORIGIN}
    assert read_record(tmp_path / "none.json") == {}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"images": {"a": {"study": "1"}}}', '{"images": 3}'])
def test_a_damaged_record(tmp_path, text):
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(InputError, match="the record of the import is damaged"):
        read_record(tmp_path / RECORD_FILE)


def test_only_images_of_the_record_are_removed(tmp_path):
    """Neither what this run wrote, nor what the user put there, nor anything outside the folder."""
    outside = tmp_path / "mine.nii.gz"
    files = [tmp_path / IMAGES / name for name in ("old.nii.gz", "new.nii.gz", "own.nii.gz", "notes.txt")]
    (tmp_path / IMAGES).mkdir()
    for file in (outside, *files, tmp_path / IMAGES / "New.nii.gz"):  # one file, where case does not count
        file.write_bytes(b"")
    names = ("old.nii.gz", "New.nii.gz", "notes.txt", "../mine.nii.gz", str(outside), "gone.nii.gz")
    assert remove_stale(tmp_path, dict.fromkeys(names, ORIGIN), ["new.nii.gz"]) == ["old.nii.gz"]
    assert [file.exists() for file in (outside, *files)] == [True, False, True, True, True]
