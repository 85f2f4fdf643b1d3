from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muster.domain.artifact_key import artifact_key
from muster.store.objects import UNFINISHED, Objects, ObjectsUnavailableError


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def places(folder: Path) -> list[str]:
    """The folders in which a file lies."""
    return sorted({path.parent.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()})


async def read(objects: Objects, key: str) -> bytes | None:
    found = await objects.get(key)
    return None if found is None else b"".join([chunk async for chunk in found])


async def test_an_object_lies_under_its_key_as_it_is(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    key = artifact_key(video_id="a/../b ü%", node_id="PC-01", device_id="..", run_id="r", taken_at_ms=5_000)
    await objects.put(key, chunks(b"one ", b"two"))
    assert (tmp_path / "artifacts" / key).read_bytes() == b"one two"
    assert await read(objects, key) == b"one two"


async def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert await read(Objects.in_folder(tmp_path), "nothing/here.png") is None


async def test_a_write_that_fails_leaves_the_old_object(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"new " * 3_000_000
        raise ValueError("broken")

    objects = Objects.in_folder(tmp_path)
    await objects.put("a/1.png", chunks(b"old"))
    with pytest.raises(ValueError, match="broken"):
        await objects.put("a/1.png", broken())
    assert await read(objects, "a/1.png") == b"old"
    assert files(tmp_path) == ["1.png"]


async def test_an_object_comes_to_its_place_when_it_is_whole(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    async def watched() -> AsyncIterator[bytes]:
        yield b"half " * 3_000_000
        seen.append(places(tmp_path))
        yield b"rest"

    objects = Objects.in_folder(tmp_path)
    await objects.put("a/1.png", watched())
    assert seen[0] in ([], ["artifacts/+unfinished"]), "a kill leaves it there and nowhere else"
    assert places(tmp_path) == ["artifacts/a"]


async def test_what_a_kill_left_of_a_write_is_removed_and_nothing_else(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    assert await objects.discard_unfinished() == 0
    key = artifact_key(video_id="+unfinished", node_id="+", device_id="d", run_id="r", taken_at_ms=5_000)
    await objects.put(key, chunks(b"whole"))
    for name in ("0a#1", "0b"):  # as obstore writes, and before it is moved
        (tmp_path / "artifacts" / UNFINISHED / name).write_bytes(b"ha")
    assert await objects.discard_unfinished() == 2
    assert await objects.discard_unfinished() == 0
    assert files(tmp_path) == ["5.png"]
    assert await read(objects, key) == b"whole"


async def test_an_object_that_cannot_come_to_its_place_leaves_nothing(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    (tmp_path / "artifacts" / "a").write_text("a file stands where a folder must be")
    with pytest.raises(ObjectsUnavailableError):
        await objects.put("a/1.png", chunks(b"x"))
    assert files(tmp_path) == ["a"]


async def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    objects = Objects.in_folder(tmp_path)
    await objects.check()
    (tmp_path / "artifacts").rmdir()
    with pytest.raises(ObjectsUnavailableError, match="gone"):
        await objects.check()
    (tmp_path / "artifacts").write_text("a file stands here")
    with pytest.raises(ObjectsUnavailableError):
        await objects.put("a/1.png", chunks(b"x"))


async def test_a_store_is_found_by_its_address(tmp_path: Path) -> None:
    objects = Objects.at((tmp_path / "far away").as_uri())
    await objects.put("1.png", chunks(b"x"))
    assert files(tmp_path / "far away") == ["1.png"]
    with pytest.raises(ValueError, match="s3"):
        Objects.at("s3://bucket")
