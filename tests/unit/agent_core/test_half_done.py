"""What a killed agent left half done goes at its successor's start; what is whole stays."""

from pathlib import Path

from muster.agent.half_done import remove_half_done
from muster.agent.whole_file import replace_file


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("something", encoding="utf-8")
    return path


def test_what_was_being_written_goes_and_what_is_whole_stays(tmp_path: Path) -> None:
    node, files = tmp_path / "agent", tmp_path / "files"
    half_done = [
        made(node / "phones.new"),
        made(node / "shots" / "shot-abc" / "shot" / "1.png"),
        made(node / "shots" / "shot-abc" / "shot.png"),
        made(files / "pulled" / "run" / "phone" / ".fetch.txt.part"),
    ]
    whole = [
        made(node / "phones.json"),
        made(node / "journal.sqlite3-wal"),
        made(node / "spool" / "1.png"),
        made(files / "app.apk"),
        made(files / ".app.apk.part"),  # somebody copies it there now
        made(files / "pulled" / "run" / "phone" / "fetch.part"),
    ]
    remove_half_done(node, files)
    assert [path for path in half_done if path.exists()] == []
    assert not list((node / "shots").iterdir())
    assert all(path.exists() for path in whole)


def test_a_first_start_has_nothing_to_remove(tmp_path: Path) -> None:
    remove_half_done(tmp_path / "agent", tmp_path / "files")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for text in ("one", "two"):
        replace_file(tmp_path / "phones.json", text)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("phones.json", "two")]
