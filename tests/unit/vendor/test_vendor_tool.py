import asyncio
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.vendor_tool import Behaviour, answer, vendor_tool
from websockets.asyncio.server import ServerConnection

from muster.domain.failure import FailureReason
from muster.domain.limits import ARTIFACT_BYTES_MAX
from muster.vendor.errors import VendorMalformed, VendorPictureMissing, VendorRefused
from muster.vendor.pool import VendorPool
from muster.vendor.screens import LEFTOVER_SEC, is_whole_picture, settled, shot_folder
from muster.vendor.tool import VendorTool


def picture(kind: str = "PNG", colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (60, 40), colour).save(file, kind)
    return file.getvalue()


PNG = picture()


def shoots(save: Callable[[Path], Any]) -> Behaviour:
    """A tool that says yes and does `save(savePath)`."""

    async def behaviour(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer())
        save(Path(request["data"]["savePath"]))

    return behaviour


def left_in(root: Path) -> list[Path]:
    return sorted(root.rglob("*"))


# ---- list ------------------------------------------------------------------------------------------------------------


async def test_list_gives_phones_and_tells_what_it_could_not_take() -> None:
    async def lists(connection: ServerConnection, request: dict[str, Any]) -> None:
        assert request == {"action": "list"}
        await connection.send(answer([{"serial": "A", "onlySerial": "B", "status": "online"}, {"serial": "C"}]))

    async with vendor_tool(lists) as fake, VendorPool(fake.url) as pool:
        listed = await VendorTool(pool).list()
    assert [device.only_serial for device in listed.devices] == ["B"]
    assert len(listed.problems) == 1


async def test_a_refusal_keeps_code_and_chinese_message() -> None:
    async def refuses(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer(code=10001, message="未激活此功能"))

    async with vendor_tool(refuses) as fake, VendorPool(fake.url) as pool:
        with pytest.raises(VendorRefused, match="未激活此功能") as raised:
            await VendorTool(pool).list()
        assert (raised.value.code, raised.value.reason) == (10001, FailureReason.VENDOR_COMMAND_ERROR)
        assert fake.opened == 1, "a refusal is a good answer: the connection is kept"
        assert pool.idle_count == 1


async def test_a_list_that_is_no_list_is_malformed() -> None:
    async def odd(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer({"devices": []}))

    async with vendor_tool(odd) as fake, VendorPool(fake.url) as pool:
        with pytest.raises(VendorMalformed):
            await VendorTool(pool).list()


# ---- screen ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "save"),
    [
        ("PNG", lambda folder: (folder / "A_20261122.png").write_bytes(PNG)),
        ("JPEG", lambda folder: (folder / "截图.jpg").write_bytes(picture("JPEG"))),
        ("PNG", lambda folder: folder.with_suffix(".png").write_bytes(PNG)),
        ("PNG", lambda folder: ((folder / "A").mkdir(), (folder / "A" / "1.png").write_bytes(PNG))),
    ],
    ids=["a name of its choosing", "JPEG", "beside the path", "in a folder of the phone"],
)
async def test_a_picture_is_found_wherever_the_version_puts_it_and_the_folder_is_gone(
    tmp_path: Path, kind: str, save: Callable[[Path], Any]
) -> None:
    async with vendor_tool(shoots(save)) as fake, VendorPool(fake.url) as pool:
        shot = await VendorTool(pool).screen("A", tmp_path / "shots")
    assert Image.open(BytesIO(shot)).format == kind
    assert left_in(tmp_path / "shots") == []


async def test_a_version_that_takes_the_path_for_a_file_is_given_one(tmp_path: Path) -> None:
    async def writes_a_file(connection: ServerConnection, request: dict[str, Any]) -> None:
        try:
            Path(request["data"]["savePath"]).write_bytes(PNG)  # noqa: ASYNC240
        except OSError:
            await connection.send(answer(code=10001, message="保存失败"))
        else:
            await connection.send(answer())

    async with vendor_tool(writes_a_file) as fake, VendorPool(fake.url) as pool:
        assert await VendorTool(pool).screen("A", tmp_path) == PNG
    assert left_in(tmp_path) == []


async def test_a_picture_is_asked_of_one_phone_into_a_folder_of_its_own(tmp_path: Path) -> None:
    healthy = shoots(lambda folder: (folder / "x.png").write_bytes(PNG))
    async with vendor_tool(healthy) as fake, VendorPool(fake.url) as pool:
        await asyncio.gather(*(VendorTool(pool).screen(serial, tmp_path) for serial in "ABCD"))
    assert sorted(request["devices"] for request in fake.requests) == ["A", "B", "C", "D"]
    assert len({request["data"]["savePath"] for request in fake.requests}) == 4


async def test_shots_at_the_same_time_never_mix(tmp_path: Path) -> None:
    colours = {"A": "red", "B": "lime", "C": "blue", "D": "white"}

    async def paints(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer())
        data = picture(colour=colours[request["devices"]])
        await asyncio.to_thread((Path(request["data"]["savePath"]) / "screen.png").write_bytes, data)

    async with vendor_tool(paints) as fake, VendorPool(fake.url) as pool:
        shots = await asyncio.gather(*(VendorTool(pool).screen(serial, tmp_path) for serial in colours))
    assert shots == [picture(colour=colour) for colour in colours.values()]


async def test_a_picture_that_is_written_slowly_is_taken_only_when_it_is_whole(tmp_path: Path) -> None:
    async def writes_slowly(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer())
        path = Path(request["data"]["savePath"]) / "screen.png"
        pieces = [PNG[at : at + len(PNG) // 4 + 1] for at in range(0, len(PNG), len(PNG) // 4 + 1)]
        for count in range(len(pieces) + 1):
            await asyncio.to_thread(path.write_bytes, b"".join(pieces[:count]))
            await asyncio.sleep(0.12)  # long enough to stand still between two looks, half written

    async with vendor_tool(writes_slowly) as fake, VendorPool(fake.url) as pool:
        assert await VendorTool(pool).screen("A", tmp_path) == PNG


@pytest.mark.parametrize(
    "save",
    [
        lambda folder: None,
        lambda folder: (folder / "x.png").write_bytes(PNG[:-1]),
        lambda folder: (folder / "x").touch(),
    ],
    ids=["none", "never whole", "empty"],
)
async def test_a_promised_picture_that_never_comes_is_a_command_error_within_the_limit(
    tmp_path: Path, save: Callable[[Path], Any]
) -> None:
    async with vendor_tool(shoots(save)) as fake, VendorPool(fake.url) as pool:
        with pytest.raises(VendorPictureMissing) as raised:
            await VendorTool(pool, picture_timeout_sec=0.3).screen("A", tmp_path)
    assert raised.value.reason is FailureReason.VENDOR_COMMAND_ERROR
    assert left_in(tmp_path) == []


async def test_a_shot_that_is_cancelled_removes_its_folder(tmp_path: Path) -> None:
    shot = asyncio.Event()

    async def says_yes(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer())
        shot.set()

    async with vendor_tool(says_yes) as fake, VendorPool(fake.url) as pool:
        task = asyncio.create_task(VendorTool(pool).screen("A", tmp_path))
        await shot.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert left_in(tmp_path) == []


async def test_a_refused_shot_removes_its_folder(tmp_path: Path) -> None:
    async def refuses(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer(code=10001, message="设备不在线"))

    async with vendor_tool(refuses) as fake, VendorPool(fake.url) as pool:
        with pytest.raises(VendorRefused, match="设备不在线"):
            await VendorTool(pool).screen("A", tmp_path)
    assert left_in(tmp_path) == []


def test_only_a_file_whose_size_stands_still_is_looked_into() -> None:
    grown, new, empty, huge, still = (Path(name) for name in ("grown", "new", "empty", "huge", "still"))
    before = {grown: 10, empty: 0, huge: ARTIFACT_BYTES_MAX + 1, still: 7}
    assert settled(before, before | {grown: 11, new: 5}) == [still]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_no_beginning_of_a_picture_is_whole(kind: str) -> None:
    data = picture(kind)
    assert is_whole_picture(data)
    assert not any(is_whole_picture(data[:end]) for end in range(len(data)))


def test_a_file_that_is_no_picture_is_not_whole() -> None:
    assert not is_whole_picture(b"GIF89a")
    assert not is_whole_picture(b"")


def test_what_a_late_tool_or_a_killed_agent_has_left_goes_with_a_later_shot(tmp_path: Path) -> None:
    for name, age_sec in (("shot-late", LEFTOVER_SEC + 60), ("shot-under-way", LEFTOVER_SEC - 60), ("mine", 1e6)):
        (tmp_path / name / "shot").mkdir(parents=True)
        (tmp_path / name / "shot" / "picture.png").write_bytes(PNG)
        with shot_folder(tmp_path) as fresh:
            now_sec = fresh.stat().st_mtime
        os.utime(tmp_path / name, (now_sec - age_sec, now_sec - age_sec))
    with shot_folder(tmp_path):
        left = {path.name for path in tmp_path.iterdir()}
    assert {"shot-under-way", "mine"} < left and "shot-late" not in left
