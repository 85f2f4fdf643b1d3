import asyncio
from typing import Any

import psutil
import pytest
from tests.support.adb import black_hole, dead_port, scripted_server
from tests.support.vendor_tool import answer, echo, never, vendor_tool
from websockets.asyncio.server import ServerConnection

from muster.domain.failure import FailureReason
from muster.vendor.errors import VendorBusy, VendorMalformed, VendorUnanswered, VendorUnavailable
from muster.vendor.pool import VendorPool
from muster.vendor.tool import VendorTool


async def test_a_request_gets_its_own_answer_and_the_connection_is_used_again() -> None:
    async with vendor_tool(echo) as tool, VendorPool(tool.url) as pool:
        for action in ("one", "two", "three"):
            assert (await pool.request(action)).data == {"action": action}
        assert tool.opened == 1


async def test_many_requests_at_once_use_no_more_connections_than_the_pool_has() -> None:
    async with vendor_tool(echo) as tool, VendorPool(tool.url, size=3) as pool:
        answers = await asyncio.gather(*(pool.request(f"a{number}") for number in range(50)))
        assert [each.data for each in answers] == [{"action": f"a{number}"} for number in range(50)]
        assert tool.opened <= 3


async def test_one_connection_never_carries_two_requests_at_once() -> None:
    busy: set[ServerConnection] = set()

    async def watch(connection: ServerConnection, request: dict[str, Any]) -> None:
        assert connection not in busy
        busy.add(connection)
        await asyncio.sleep(0)
        busy.discard(connection)
        await connection.send(answer(request["action"]))

    async with vendor_tool(watch) as tool, VendorPool(tool.url, size=2) as pool:
        answers = await asyncio.gather(*(pool.request(str(number)) for number in range(20)))
    assert [each.data for each in answers] == [str(number) for number in range(20)]


async def test_an_answer_that_comes_after_the_time_out_is_never_taken_for_the_next_requests() -> None:
    release = asyncio.Event()

    async def slow_first(connection: ServerConnection, request: dict[str, Any]) -> None:
        if request["action"] == "slow":
            await release.wait()
        await connection.send(answer(request["action"]))

    async with vendor_tool(slow_first) as tool, VendorPool(tool.url, size=1) as pool:
        await pool.request("first")
        with pytest.raises(VendorUnanswered, match="did not answer within"):
            await pool.request("slow", timeout_sec=0.05)
        release.set()
        assert (await pool.request("next")).data == "next"
        assert tool.opened == 2


async def test_an_answer_that_comes_after_a_cancellation_is_never_taken_for_the_next_requests() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow_first(connection: ServerConnection, request: dict[str, Any]) -> None:
        if request["action"] == "slow":
            asked.set()
            await release.wait()
        await connection.send(answer(request["action"]))

    async with vendor_tool(slow_first) as tool, VendorPool(tool.url, size=1) as pool:
        task = asyncio.create_task(pool.request("slow"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert (await pool.request("next")).data == "next"


async def test_a_second_answer_to_one_request_is_not_taken_for_the_next_requests() -> None:
    arrived = asyncio.Event()

    async def twice(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer(request["action"]))
        await connection.send(answer(request["action"]))
        await (await connection.ping())  # what was sent before the ping has arrived when the pong comes
        arrived.set()

    async with vendor_tool(twice) as tool, VendorPool(tool.url, size=1) as pool:
        assert (await pool.request("one")).data == "one"
        await arrived.wait()
        (doubted,) = tool.open
        assert (await pool.request("two")).data == "two"
        await doubted.wait_closed()
        assert tool.opened == 2


MISBEHAVIOUR: dict[str, str | bytes] = {
    "rubbish": "<html>",
    "no code": "{}",
    "binary rubbish": b"\xff\xfe\xfd",
    "10 MB": answer("x" * 10_000_000),
}


@pytest.mark.parametrize("kind", MISBEHAVIOUR)
async def test_an_unusable_answer_is_an_error_and_the_next_request_works(kind: str) -> None:
    async def misbehave(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer("fine") if request["action"] == "next" else MISBEHAVIOUR[kind])

    async with vendor_tool(misbehave) as tool, VendorPool(tool.url, size=1) as pool:
        with pytest.raises(VendorUnavailable) as raised:
            await pool.request("first")
        assert raised.value.reason is FailureReason.VENDOR_WS_ERROR
        assert isinstance(raised.value, VendorMalformed) is (kind != "10 MB")
        assert (await pool.request("next")).data == "fine"
        assert tool.opened == 2


async def test_a_connection_dropped_in_the_middle_is_an_error_and_the_next_request_works() -> None:
    async def drop(connection: ServerConnection, request: dict[str, Any]) -> None:
        if request["action"] == "drop":
            connection.transport.abort()
        else:
            await connection.send(answer("fine"))

    async with vendor_tool(drop) as tool, VendorPool(tool.url, size=1) as pool:
        with pytest.raises(VendorUnavailable, match="broke"):
            await pool.request("drop")
        assert (await pool.request("next")).data == "fine"


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async def once(connection: ServerConnection, request: dict[str, Any]) -> None:
        await connection.send(answer(request["action"]))
        await connection.close()

    async with vendor_tool(once) as tool, VendorPool(tool.url, size=1) as pool:
        for action in ("one", "two", "three"):
            assert (await pool.request(action)).data == action
            await tool.all_hung_up()


async def test_nobody_at_the_address_is_an_error_at_once() -> None:
    with dead_port() as port:
        async with VendorPool(f"ws://127.0.0.1:{port}/") as pool:
            with pytest.raises(VendorUnavailable, match="no vendor tool at"):
                await pool.request("list")


async def test_an_address_that_swallows_connections_is_left_after_the_limit() -> None:
    with black_hole() as port:
        async with VendorPool(f"ws://127.0.0.1:{port}/", open_timeout_sec=0.05) as pool:
            with pytest.raises(VendorUnavailable):
                await pool.request("list")


async def test_something_that_accepts_and_never_shakes_hands_is_left_after_the_limit() -> None:
    async with scripted_server(lambda peer: peer.hangup()) as server:
        async with VendorPool(f"ws://127.0.0.1:{server.port}/", open_timeout_sec=0.05) as pool:
            with pytest.raises(VendorUnavailable):
                await pool.request("list")
        await server.idle()


async def test_a_request_with_less_time_than_a_handshake_may_take_says_nothing_of_the_tool() -> None:
    async with scripted_server(lambda peer: peer.hangup()) as server:
        async with VendorPool(f"ws://127.0.0.1:{server.port}/") as pool:
            with pytest.raises(VendorBusy, match="came about in") as caught:
                await pool.request("list", timeout_sec=0.1)
            assert not caught.value.fate_unknown
        await server.idle()


async def test_another_kind_of_server_is_an_error() -> None:
    async def ssh(peer: Any) -> None:
        peer.send(b"SSH-2.0-OpenSSH_9.9\r\n")
        await peer.hangup()

    async with scripted_server(ssh) as server, VendorPool(f"ws://127.0.0.1:{server.port}/") as pool:
        with pytest.raises(VendorUnavailable):
            await pool.request("list")


async def test_waiting_for_a_free_connection_has_a_limit() -> None:
    asked = asyncio.Event()

    async def takes_its_time(connection: ServerConnection, request: dict[str, Any]) -> None:
        asked.set()

    async with vendor_tool(takes_its_time) as tool, VendorPool(tool.url, size=1, wait_timeout_sec=0.05) as pool:
        stuck = asyncio.create_task(pool.request("list"))
        await asked.wait()
        with pytest.raises(VendorBusy, match="was busy"):
            await pool.request("list")
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck


async def test_half_of_a_request_s_own_time_is_left_for_the_answer_however_busy_the_connections_are() -> None:
    asked = asyncio.Event()

    async def takes_its_time(connection: ServerConnection, request: dict[str, Any]) -> None:
        asked.set()

    async with vendor_tool(takes_its_time) as tool, VendorPool(tool.url, size=1) as pool:
        stuck = asyncio.create_task(pool.request("screen"))
        await asked.wait()
        with pytest.raises(VendorBusy, match=r"was busy for 0\.05 s"):
            await pool.request("screen", timeout_sec=0.1)
        assert [request["action"] for request in tool.requests] == ["screen"], "it was not asked"
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck


async def test_a_closed_pool_gives_no_more_connections() -> None:
    async with vendor_tool(echo) as tool:
        pool = VendorPool(tool.url)
        await pool.request("list")
        pool.close()
        await tool.all_hung_up()
        with pytest.raises(VendorUnavailable, match="closed"):
            await pool.request("list")


async def test_a_hundred_requests_to_a_tool_that_never_answers_leave_nothing() -> None:
    process, tasks_before = psutil.Process(), len(asyncio.all_tasks())
    fds_before = process.num_fds()
    async with vendor_tool(never) as tool:
        async with VendorPool(tool.url, size=10, answer_timeout_sec=0.05) as pool:
            outcomes = await asyncio.gather(*(pool.request("list") for _ in range(100)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {VendorUnanswered}
            assert pool.idle_count == 0
        await tool.all_hung_up()
    await asyncio.sleep(0)
    assert process.num_fds() <= fds_before
    assert len(asyncio.all_tasks()) == tasks_before


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "ws://127.0.0.1:port"])
async def test_an_address_without_a_possible_port_is_a_tool_that_is_not_there(url: str) -> None:
    async with VendorPool(url) as pool:
        with pytest.raises(VendorUnavailable, match="no vendor tool at"):
            await pool.request("list")


async def test_phones_that_hang_on_every_connection_do_not_hide_that_the_tool_is_there() -> None:
    hung = asyncio.Event()

    async def only_lists(connection: ServerConnection, request: dict[str, Any]) -> None:
        if request["action"] == "list":
            await connection.send(answer([]))
        else:
            hung.set()

    async with vendor_tool(only_lists) as tool, VendorPool(tool.url, size=2, wait_timeout_sec=5) as pool:
        stuck = [asyncio.create_task(pool.request("screen", timeout_sec=30)) for _ in range(6)]
        await hung.wait()
        for _ in range(3):
            assert (await VendorTool(pool).list(timeout_sec=5)).devices == ()
        assert tool.opened <= 3, "and it is one connection more, however often it is asked"
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
