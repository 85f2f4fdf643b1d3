"""The phone's file tree."""

import pytest

from muster.sim.files import FileError, FileTree, fresh_tree, intern_blob, normalise


@pytest.mark.parametrize(
    ("path", "cwd", "plain"),
    [
        ("/", "/", "/"),
        ("a", "/sdcard", "/storage/emulated/0/a"),
        ("/a//b/./c/../d/", "/", "/a/b/d"),
        ("/../../x", "/", "/x"),
        ("/sdcard", "/", "/storage/emulated/0"),
        ("/sdcardx", "/", "/sdcardx"),
        ("/storage/self/primary/x", "/", "/storage/emulated/0/x"),
    ],
)
def test_paths_are_absolute_and_plain(path: str, cwd: str, plain: str) -> None:
    assert normalise(path, cwd) == plain


def tree() -> FileTree:
    return fresh_tree(1_000, capacity_bytes=1_000)


def test_used_bytes_follow_every_change() -> None:
    files = tree()
    files.write("/data/local/tmp/a", b"x" * 100, mtime=1)
    files.write("/data/local/tmp/a", b"y" * 50, mtime=2)
    files.write("/data/local/tmp/a", b"z" * 10, mtime=3, append=True)
    assert files.used_bytes == 60
    files.make_dir("/data/local/tmp/d", mtime=4)
    files.rename("/data/local/tmp/a", "/data/local/tmp/d/a")
    assert (files.used_bytes, files.read("/data/local/tmp/d/a")[-1:]) == (60, b"z")
    files.remove("/data/local/tmp/d", recursive=True)
    assert files.used_bytes == 0


def test_a_write_that_does_not_fit_changes_nothing() -> None:
    files = tree()
    files.write("/data/local/tmp/a", b"x" * 900, mtime=1)
    with pytest.raises(FileError, match="No space left"):
        files.write("/data/local/tmp/b", b"x" * 101, mtime=1)
    assert files.find("/data/local/tmp/b") is None
    files.write("/data/local/tmp/a", b"x" * 1000, mtime=1)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere/a", "No such file"),
        ("/data/local/tmp", "Is a directory"),
        ("/system/x", "Read-only"),
        ("/data/local/tmp/f/x", "Not a directory"),
    ],
)
def test_a_file_cannot_be_made_just_anywhere(path: str, words: str) -> None:
    files = tree()
    files.write("/data/local/tmp/f", b"", mtime=1)
    with pytest.raises(FileError, match=words):
        files.write(path, b"x", mtime=1)


def test_a_folder_does_not_move_into_itself() -> None:
    files = tree()
    with pytest.raises(FileError, match="Invalid argument"):
        files.rename("/data/local", "/data/local/tmp/x")


def test_the_same_large_file_on_many_phones_is_kept_once() -> None:
    data = bytes(100_000)
    phones = [fresh_tree(0) for _ in range(3)]
    for files in phones:
        files.write("/data/local/tmp/app.apk", bytes(data), mtime=1)
    blobs = {id(files.get("/data/local/tmp/app.apk").blob) for files in phones}
    assert len(blobs) == 1
    assert intern_blob(b"small") is not intern_blob(b"small")
