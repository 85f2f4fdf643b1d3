"""The ids that a node has given survive restarts, and a broken file survives nobody's patience."""

import json
from pathlib import Path

from muster.agent.identities import Identities
from muster.agent.identity_file import IdentityFile


async def test_what_was_saved_is_loaded_in_its_order(tmp_path: Path) -> None:
    identities = Identities()
    for name in ("b", "a", "한글"):
        identities.identify(None, name)
    identities.remember_handle("10.0.0.1:5555", "a")
    path = tmp_path / "deep" / "phones.json"
    await IdentityFile(path).save(identities)
    loaded = IdentityFile(path).load()
    assert list(loaded.names.items()) == list(identities.names.items())
    assert loaded.handles == {"10.0.0.1:5555": "a"}
    assert not list(path.parent.glob("*.new"))


async def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "phones.json"
    file, identities = IdentityFile(path), Identities()
    await file.save(identities)
    assert not path.exists()
    identities.identify(None, "a")
    await file.save(identities)
    path.unlink()
    await file.save(identities)
    assert not path.exists()


async def test_a_broken_file_counts_as_nothing_known_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "phones.json"
    path.write_text('{"names": ', encoding="utf-8")
    file = IdentityFile(path)
    identities = file.load()
    assert identities == Identities()
    identities.identify("ONLY", "OWN")
    await file.save(identities)
    assert json.loads(path.read_text(encoding="utf-8"))["names"] == {"onlySerial:ONLY": "ONLY", "serialno:OWN": "ONLY"}


async def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    identities = Identities()
    identities.identify(None, "a")
    await IdentityFile(tmp_path / "file" / "phones.json").save(identities)


async def test_what_a_full_disk_did_not_take_is_written_when_it_does_though_nothing_is_new(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way", encoding="utf-8")
    file, identities = IdentityFile(tmp_path / "folder" / "phones.json"), Identities()
    identities.identify(None, "a")
    await file.save(identities)
    (tmp_path / "folder").unlink()
    await file.save(identities)
    assert IdentityFile(tmp_path / "folder" / "phones.json").load().names == identities.names


def test_the_last_ids_of_handles_are_bounded() -> None:
    identities = Identities()
    for number in range(5_000):
        identities.remember_handle(f"10.0.{number // 250}.{number % 250}:5555", "a")
    assert len(identities.handles) == 4_000
    assert "10.0.19.249:5555" in identities.handles
