"""The Emulator Health Gate with real processes: the stand-in `emulator`, the real adb server, the agent's own rack."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.waiting import until

from muster.adb.server import ensure_server
from muster.agent.emulators import EmulatorProcesses, EmulatorSettings
from muster.agent.preflight.emulator import EmulatorHealth, EmulatorNotStarted
from muster.agent.preflight.gate import Refused, Subject
from muster.agent.rack import AttachedRack, RackSettings
from muster.domain.failure import FailureReason
from muster.recipe.conditions import DeviceFacts
from muster.runtime.clock import SystemClock
from muster.runtime.connections import Connections
from muster.sim.emulator import install

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


class Scene:
    """A node whose one emulator belongs to the AVD `pixel`."""

    def __init__(self, rack: AttachedRack, emulators: EmulatorProcesses, port: int, logs: Path) -> None:
        self.rack, self.emulators, self.port, self.logs = rack, emulators, port, logs
        self.handle = f"emulator-{port}"

    async def check(self, wait_ms: int = 40_000) -> Refused | None:
        subject = Subject(self.handle, self.rack.phones, SystemClock(), 15_000, DeviceFacts(self.handle))
        return await EmulatorHealth(self.emulators, wait_ms).check(subject)


@asynccontextmanager
async def scene(folder: Path, monkeypatch: pytest.MonkeyPatch, avd: str, *, program: str = "") -> AsyncIterator[Scene]:
    (folder / "avd" / "pixel.avd").mkdir(parents=True)
    (folder / "avd" / "pixel.avd" / "muster.yaml").write_text(avd)
    monkeypatch.setenv("ANDROID_AVD_HOME", str(folder / "avd"))
    server = await ensure_server("127.0.0.1", 0, private=True, home=folder / "adb")
    clock, port = SystemClock(), free_pair()
    told = EmulatorSettings("pixel", program or str(install(folder / "bin")), server.port, folder / "logs", 60.0)
    settings = RackSettings(server.host, server.port, None, folder / "agent")
    try:
        async with AttachedRack(settings, clock) as rack, EmulatorProcesses(told, clock) as emulators:
            try:
                yield Scene(rack, emulators, port, folder / "logs")
            finally:
                await emulators.stop(port)
    finally:
        await server.stop()


def free_pair() -> int:
    """An even port that is free, and the odd one after it too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            # A handle has the port in it, of five digits at most.
            try:
                other.bind(("127.0.0.1", port ^ 1))
            except OSError:
                continue
            return port & ~1


async def test_an_emulator_that_is_down_is_started_and_one_that_died_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, "adb_after: 0.2\nboot_after: 0.8\n") as room:
        assert await room.check() is None
        phone = room.rack.find(room.handle)
        assert phone is not None
        assert (await phone.shell("getprop sys.boot_completed")).stdout.strip() == b"1"
        assert await room.check() is None, "it is well and left alone"
        await room.emulators.stop(room.port)
        await until(lambda: room.rack.find(room.handle) is None)
        assert await room.check() is None


async def test_one_that_never_boots_is_skipped_as_not_booted_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, "adb_after: 0.1\nnever_boots: true\n") as room:
        began = time.monotonic()
        verdict = await room.check(wait_ms=16_000)
        assert verdict is not None and verdict.reason is FailureReason.EMULATOR_NOT_BOOTED, verdict
        assert time.monotonic() - began < 60


async def test_one_that_refuses_to_start_is_skipped_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, "refuses: 'PANIC: no KVM here'\n") as room:
        verdict = await room.check()
        assert verdict is not None and verdict.reason is FailureReason.EMULATOR_NOT_ONLINE
        assert "PANIC: no KVM here" in verdict.message


async def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, monkeypatch, "", program="no-such-emulator") as room:
        with pytest.raises(EmulatorNotStarted, match="EMULATOR_PROGRAM"):
            await room.emulators.start(room.port)


async def test_an_emulator_that_somebody_else_started_is_ended_by_its_console_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, monkeypatch, "adb_after: 0.1\nboot_after: 0.3\n") as room:
        other = await asyncio.create_subprocess_exec(
            str(tmp_path / "bin" / "emulator"), "-avd", "pixel", "-port", str(room.port),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            env={"ANDROID_AVD_HOME": str(tmp_path / "avd"), "ANDROID_ADB_SERVER_PORT": str(room.rack.adb.port)},
        )  # fmt: skip
        try:
            await until(lambda: room.rack.find(room.handle) is not None)
            await room.emulators.start(room.port)
            async with asyncio.timeout(20):
                assert await other.wait() == 0
            assert await room.check() is None
        finally:
            if other.returncode is None:
                other.kill()
                await other.wait()


async def test_an_emulator_whose_console_hangs_keeps_no_other_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = asyncio.Event()

    async def never_answers(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        hung.set()
        while await reader.read(1_000):
            pass

    consoles = Connections(never_answers)
    async with (
        scene(tmp_path, monkeypatch, "adb_after: 0.1\nboot_after: 0.2\n") as room,
        await asyncio.start_server(consoles.accept, "127.0.0.1", 0) as console,
    ):
        starting = asyncio.create_task(room.emulators.start(console.sockets[0].getsockname()[1]))
        await hung.wait()
        await room.emulators.start(room.port)
        assert not starting.done(), "it is still being asked to end"
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await consoles.close()
