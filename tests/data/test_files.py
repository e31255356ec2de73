import json
import os
import stat

import pytest

from mrigmm.data.files import atomic, remove, require_new_folder, require_not_input, require_own, write_text
from mrigmm.errors import InputError


def test_a_written_file_is_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_exception_leaves_nothing(tmp_path):
    def fail():
        with atomic(tmp_path / "a.nii.gz") as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_existing_file_as_it_was(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("before")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_while_writing_the_old_file_is_there_and_the_format_known(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_text("before")
    with atomic(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with path.open() as reader:
        write_text(path, "after, and longer")
        assert reader.read() == "before"
    assert path.read_text() == "after, and longer"


def test_permissions_are_those_of_a_plain_file(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "a.txt", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="the output cannot be written"):
            write_text(path, "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_file_names_that_are_no_text_survive_json(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_text(tmp_path / "a.json", json.dumps({"path": name}, ensure_ascii=False))
    assert os.fsencode(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["path"]) == b"caf\xe9"


def test_remove(tmp_path):
    (tmp_path / "a").write_text("x")
    remove(tmp_path / "a")
    remove(tmp_path / "a")  # nothing there is fine
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="cannot be written"):
        remove(tmp_path)


def test_an_output_may_not_be_an_input(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    require_not_input(tmp_path / "b", inputs=[tmp_path / "a"])
    for path in (tmp_path / "a", tmp_path / "link", tmp_path / "." / ".." / tmp_path.name / "a"):
        with pytest.raises(InputError, match="would replace an input"):
            require_not_input(path, inputs=[tmp_path / "a"])


def test_folders_for_results(tmp_path):
    require_new_folder(tmp_path / "new" / "er", overwrite=False, holds="*.nii.gz")
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("x")
    require_new_folder(tmp_path, overwrite=False, holds="*.nii.gz")
    (tmp_path / "a.nii.gz").write_text("x")
    with pytest.raises(InputError, match="already has results") as caught:
        require_new_folder(tmp_path, overwrite=False, holds="*.nii.gz")
    assert caught.value.problems[0].remedy == "choose another -o"
    with pytest.raises(InputError, match="or wait") as caught:
        require_new_folder(tmp_path, holds="*.nii.gz", instead="wait")
    require_new_folder(tmp_path, overwrite=True, holds="*.nii.gz")
    for bad in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "below"):
        with pytest.raises(InputError, match="the output is not a folder"):
            require_new_folder(bad, overwrite=True, holds="*")
    with pytest.raises(InputError, match="cannot be written"):
        require_new_folder(tmp_path / ("x" * 300), overwrite=True, holds="*")


def test_only_files_of_ones_own_are_made_anew(tmp_path):
    for content in (None, "", "<title>a mark</title>"):
        if content is not None:
            (tmp_path / "a.html").write_text(content)
        require_own(tmp_path / "a.html", mark="a mark</title>")
    (tmp_path / "a.html").write_text("my notes")
    with pytest.raises(InputError, match="would replace a file that this command did not write"):
        require_own(tmp_path / "a.html", mark="a mark</title>")
