"""The tool's bad days, one quirk at a time, over a real WebSocket."""

import asyncio
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.support.manual_clock import ManualClock
from tests.support.vendor_rack import Rack
from tests.support.waiting import until
from tests.unit.sim_vendor.conftest import Talker
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from muster.sim.vendor import VendorPace, VendorQuirks, VendorServer
from muster.sim.vendor.messages import MESSAGE_BYTES_MAX, Refusal, Request, parse_request
from muster.sim.vendor.paths import on_this_machine
from muster.sim.vendor.quirks import INSTANT, Misbehaviour

LIST = json.dumps({"action": "list"})


class TestQuirkSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"late_share": 1.1},
            {"silent_share": -0.1},
            {"late_share": 0.6, "silent_share": 0.6},
            {"picture_missing_share": 0.7, "picture_torn_share": 0.7},
            {"late_sec": -1.0},
            {"huge_bytes": 0},
            {"refused_actions": frozenset({"List"})},
        ],
    )
    def test_nonsense_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"share|late_sec|huge_bytes|refused_actions"):
            VendorQuirks(**wrong)  # type: ignore[arg-type]

    def test_everything_is_off_by_default(self) -> None:
        rng = random.Random(1)
        assert {VendorQuirks().draw(rng) for _ in range(200)} == {Misbehaviour.NONE}

    def test_the_same_seed_gives_the_same_bad_day(self) -> None:
        quirks = VendorQuirks(late_share=0.2, silent_share=0.2, rubbish_share=0.2, huge_share=0.2, dropped_share=0.2)
        days = [[quirks.draw(rng) for _ in range(100)] for rng in (random.Random(5), random.Random(5))]
        assert days[0] == days[1]
        assert set(days[0]) == set(Misbehaviour) - {Misbehaviour.NONE}


class TestReadingRequests:
    @given(st.one_of(st.text(), st.binary()))
    def test_any_text_is_a_request_or_a_refusal(self, text: str | bytes) -> None:
        try:
            assert isinstance(parse_request(text), Request)
        except Refusal as refusal:
            assert str(refusal)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"action": 1}', '{"action": "list", "devices": ["x"]}', "[" * 9999]
    )
    async def test_what_is_no_request_is_answered_and_the_next_one_works(self, talker: Talker, text: str) -> None:
        await talker.connection.send(text)
        assert json.loads(await talker.connection.recv())["code"] == 10_001
        assert (await talker.ask("list"))[0] == 10_000

    async def test_a_message_above_the_limit_ends_the_connection(self, talker: Talker) -> None:
        await talker.connection.send("x" * (MESSAGE_BYTES_MAX + 1))
        with pytest.raises(ConnectionClosed):
            await talker.connection.recv()

    def test_a_windows_path_stays_inside_the_data_folder_where_there_are_no_drives(self, tmp_path: Path) -> None:
        assert on_this_machine("/plain/path", tmp_path) == Path("/plain/path")
        assert on_this_machine(r"D:\Pictures\..\..\x", tmp_path) == tmp_path / "D" / "Pictures" / "x"


class TestAnswers:
    async def test_a_late_answer_comes_after_the_next_one(self, rack: Rack) -> None:
        clock = ManualClock()
        server = VendorServer(rack, pace=INSTANT, clock=clock, quirks=VendorQuirks(late_share=1.0, late_sec=5.0))
        await server.start()
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as connection:
            await connection.send(json.dumps({"action": "getTags"}))
            await _answered(server, 1)
            server.quirks = VendorQuirks()
            await connection.send(LIST)
            assert len(json.loads(await connection.recv())["data"]) == 3
            await clock.advance(5.0)
            assert json.loads(await connection.recv())["data"] == []
        await server.stop()

    async def test_a_silent_tool_does_the_work_and_says_nothing(self, talker: Talker, server: VendorServer) -> None:
        server.quirks = VendorQuirks(silent_share=1.0)
        await talker.connection.send(json.dumps({"action": "addTag", "data": {"name": "quiet"}}))
        await _answered(server, 1)
        server.quirks = VendorQuirks()
        assert [tag["name"] for tag in (await talker.ask("getTags"))[2]] == ["quiet"]

    async def test_rubbish_is_never_a_proper_answer(self, talker: Talker, server: VendorServer) -> None:
        server.quirks = VendorQuirks(rubbish_share=1.0, seed=3)
        for _ in range(30):
            await talker.connection.send(LIST)
            assert not _is_answer(await talker.connection.recv())

    async def test_a_huge_answer_is_as_large_as_was_asked(self, server: VendorServer) -> None:
        server.quirks = VendorQuirks(huge_share=1.0)
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None, max_size=None) as connection:
            await connection.send(LIST)
            assert len(await connection.recv()) > 10 * 1024 * 1024

    async def test_a_dropped_connection_ends_in_the_middle_of_the_answer(
        self, talker: Talker, server: VendorServer
    ) -> None:
        server.quirks = VendorQuirks(dropped_share=1.0)
        await talker.connection.send(LIST)
        with pytest.raises(ConnectionClosed):
            await talker.connection.recv()

    async def test_refused_actions_say_that_they_are_not_activated(self, talker: Talker, server: VendorServer) -> None:
        server.quirks = VendorQuirks(refused_actions=frozenset({"screen"}))
        assert await talker.ask("Screen", "all") == (10_001, "功能未激活", None)
        assert (await talker.ask("list"))[0] == 10_000
        server.quirks = VendorQuirks(refused_actions=frozenset({"*"}))
        assert (await talker.ask("list"))[0] == 10_001


class TestPictures:
    async def test_a_picture_grows_piece_by_piece(self, rack: Rack, tmp_path: Path) -> None:
        clock = ManualClock()
        pace = VendorPace(1.0, 1.0, chunk_bytes=1000, chunk_pause_sec=0.5)
        server = VendorServer(rack, pace=pace, clock=clock)
        await server.start()
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as connection:
            await Talker(connection).ask("screen", "127.0.0.1:41001", {"savePath": str(tmp_path / "slow")})
            assert list((tmp_path / "slow").iterdir()) == []
            sizes = [await _grown(clock, tmp_path / "slow", above) for above in (0, 1000, 2000)]
            assert sizes == [1000, 2000, 3000]
            assert clock.monotonic() >= 2.0
        await server.stop()

    async def test_some_versions_write_jpeg(self, talker: Talker, server: VendorServer, tmp_path: Path) -> None:
        server.quirks = VendorQuirks(jpeg=True)
        await talker.ask("screen", "127.0.0.1:41001", {"savePath": str(tmp_path / "jpeg")})
        folder = tmp_path / "jpeg"
        found = await until(lambda: [p for p in folder.glob("*.jpg") if p.read_bytes().endswith(b"\xff\xd9")])
        with Image.open(found[0]) as picture:
            assert (picture.format, picture.size) == ("JPEG", (360, 780))

    async def test_some_versions_take_save_path_for_the_file(
        self, talker: Talker, server: VendorServer, rack: Rack, tmp_path: Path
    ) -> None:
        server.quirks = VendorQuirks(save_path_is_file=True)
        (tmp_path / "folder").mkdir()
        code, message, _ = await talker.ask("screen", "127.0.0.1:41001", {"savePath": str(tmp_path / "folder")})
        assert (code, message) == (10_001, "保存路径无效")
        target = tmp_path / "shot.png"
        assert (await talker.ask("screen", "127.0.0.1:41001", {"savePath": str(target)}))[0] == 10_000
        await until(lambda: target.is_file() and target.read_bytes() == rack.members[0].screen.png())

    @pytest.mark.parametrize(("share", "part"), [("picture_missing_share", 0.0), ("picture_torn_share", 0.5)])
    async def test_a_promised_picture_may_never_come_whole(
        self, talker: Talker, server: VendorServer, rack: Rack, tmp_path: Path, share: str, part: float
    ) -> None:
        server.quirks = VendorQuirks(**{share: 1.0})  # type: ignore[arg-type]
        folder = tmp_path / "part"
        assert (await talker.ask("screen", "127.0.0.1:41001", {"savePath": str(folder)}))[0] == 10_000
        await _idle()
        whole = len(rack.members[0].screen.png())
        assert sum(path.stat().st_size for path in folder.iterdir()) == round(whole * part)

    async def test_a_folder_that_is_gone_by_then_harms_nothing(self, rack: Rack, tmp_path: Path) -> None:
        clock = ManualClock()
        server = VendorServer(rack, pace=VendorPace(1.0, 1.0), clock=clock)
        await server.start()
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as connection:
            await Talker(connection).ask("screen", "127.0.0.1:41001", {"savePath": str(tmp_path / "gone")})
            (tmp_path / "gone").rmdir()
            await clock.advance(1.0)
            await _idle()
            assert (await Talker(connection).ask("list"))[0] == 10_000
        await server.stop()


class TestLifeAndDeath:
    async def test_stopping_ends_a_request_that_hangs_and_a_picture_under_way(self, rack: Rack, tmp_path: Path) -> None:
        server = VendorServer(rack, clock=ManualClock())
        await server.start()
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as connection:
            await Talker(connection).ask("screen", "all", {"savePath": str(tmp_path / "never")})
            rack.members[0].hangs = True
            await connection.send(json.dumps({"action": "adb_shell", "devices": "all", "data": {"command": "sleep"}}))
            await rack.members[0].asked.wait()
            await server.stop()
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        assert _vendor_tasks() == []

    async def test_a_client_that_leaves_takes_its_hanging_request_with_it(
        self, server: VendorServer, rack: Rack
    ) -> None:
        rack.members[0].hangs = True
        async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as connection:
            await connection.send(json.dumps({"action": "adb_shell", "devices": "all", "data": {"command": "sleep"}}))
            await rack.members[0].asked.wait()
        await until(lambda: not _vendor_tasks())

    async def test_stopping_twice_and_starting_again_on_the_same_port(self, rack: Rack) -> None:
        server = VendorServer(rack)
        port = await server.start()
        await server.stop()
        await server.stop()
        again = VendorServer(rack, port=port)
        assert await again.start() == port
        await again.stop()


async def _answered(server: VendorServer, count: int) -> None:
    await until(lambda: server.answered >= count)


async def _idle() -> None:
    await until(lambda: "vendor-background" not in _vendor_tasks())


def _vendor_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("vendor-")]


async def _grown(clock: ManualClock, folder: Path, above: int) -> int:
    """Moves time on until the one file of the folder is larger than `above`; its size then."""
    while (size := _bytes_in(folder)) <= above:
        await clock.advance(0.05)
        await asyncio.sleep(0.005)  # writing happens in a thread, outside the manual time
    return size


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _is_answer(text: str | bytes) -> bool:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and isinstance(answer.get("code"), int)
