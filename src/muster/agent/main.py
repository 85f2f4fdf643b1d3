"""The node agent as a process: opens the real parts and hands them to the composition."""

import asyncio
import importlib.metadata
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from muster.agent.care import CareParts, PhoneCare
from muster.agent.composition import Agent, AgentCannotStart, AgentPorts, AgentSettings
from muster.agent.emulators import EmulatorProcesses, EmulatorSettings
from muster.agent.half_done import remove_half_done
from muster.agent.http_link import HttpLink
from muster.agent.instance import Instance
from muster.agent.journal import JournalError
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.locks import AlreadyRunningError, DeviceFileLocks, NodeLock, state_folder
from muster.agent.observe.observer import AgentObserver, Identity
from muster.agent.observe.service import watched
from muster.agent.preflight.gate import Gate
from muster.agent.preflight.gates import GATES, gates
from muster.agent.quarantine_book import QuarantineBook
from muster.agent.rack import AttachedRack, RackSettings
from muster.agent.repairs import AdbRepairs
from muster.agent.reservations import Reservations
from muster.agent.secrets import FILE_NAME, NodeSecrets, SecretsError, load_secrets
from muster.client.http import MusterClient
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source
from muster.runtime.logs import bind_context, masked_logs
from muster.runtime.masking import Mask
from muster.runtime.private_folder import make_private

__all__ = ["AgentCannotStart", "AgentSettings", "open_ports", "run_agent"]


async def run_agent(settings: AgentSettings, *, on_ready: Callable[[str], None]) -> None:
    """Works until it is cancelled, then drains (spec/07) and raises CancelledError. Raises AgentCannotStart."""
    with bind_context(node_id=settings.node_id):
        async with AsyncExitStack() as stack:
            secrets = _secrets(settings)
            stack.enter_context(masked_logs(Mask([*secrets.values(), settings.secret or ""])))
            await Agent(settings, await open_ports(settings, secrets, stack)).run(on_ready)


def _secrets(settings: AgentSettings) -> NodeSecrets:
    """Before anything else is opened, so that no line can be logged without the mask."""
    given = settings.secrets_file
    try:
        return load_secrets(given or settings.data_dir / FILE_NAME, must_exist=given is not None)
    except SecretsError as error:
        raise AgentCannotStart(str(error)) from error


async def open_ports(settings: AgentSettings, secrets: NodeSecrets, stack: AsyncExitStack) -> AgentPorts:
    """The real parts; `stack` closes them. Raises AgentCannotStart."""
    clock = SystemClock()
    new_id = id_source(clock)
    folder = settings.data_dir.absolute() / "agent"
    spool_folder = folder / "spool"
    state_dir = settings.state_dir or state_folder()
    observer = AgentObserver(_identity(settings, folder), clock)
    try:
        make_private(spool_folder)
        stack.enter_context(NodeLock(state_dir, folder, settings.backend_url, settings.node_id))
        locks = stack.enter_context(DeviceFileLocks(state_dir, settings.adb_server))
        await asyncio.to_thread(remove_half_done, folder, settings.data_dir.absolute() / "files")
        client = await stack.enter_async_context(MusterClient(settings.backend_url, secret=settings.secret))
        # The journal's ids are made on its own thread, so from a source of its own.
        journal = SqliteJournal(
            folder / "journal.sqlite3",
            new_id=id_source(clock),
            spool_folder=spool_folder,
            open_commits=observer.open_commits,
        )
        await stack.enter_async_context(journal)
    except (AlreadyRunningError, JournalError, OSError, ValueError) as error:
        raise AgentCannotStart(str(error)) from error
    link = HttpLink(
        client,
        node_id=settings.node_id,
        instance=Instance(folder / "instance", new_id()),
        upload_timeout_sec=settings.upload_timeout_ms / 1000,
    )
    rack_settings = RackSettings(*settings.adb_server, settings.vendor_url, folder)
    book = QuarantineBook(folder / "quarantine.json", clock)
    await book.load()
    reservations = Reservations(folder / "reservations.json", clock)
    await reservations.load()
    rack = await stack.enter_async_context(
        AttachedRack(rack_settings, clock, why_quarantined=book.why, why_reserved=reservations.why)
    )
    repairs = AdbRepairs(rack.adb, rack.phones, clock)
    care_parts = CareParts(
        rack.phones, repairs, book, clock, rack.announce, rack.server_lost_at,
        reservations=reservations, may_reboot=settings.allow_reboot, grace_ms=settings.device_grace_wait_ms,
    )  # fmt: skip
    care = await stack.enter_async_context(PhoneCare(care_parts))
    observer.watch(rack, journal, (lambda: reservations.trouble, lambda: book.trouble))
    await stack.enter_async_context(watched(observer, folder, settings.http_port))
    return AgentPorts(
        clock, random.SystemRandom(), new_id, observer.link(link), journal, rack, locks, spool_folder,
        actions=care, care=care, gates=await _gates(settings, folder, stack), secrets=secrets, observer=observer,
        free_bytes=lambda: shutil.disk_usage(spool_folder).free, condition=observer.condition,
    )  # fmt: skip


def _identity(settings: AgentSettings, folder: Path) -> Identity:
    version = importlib.metadata.version("muster")
    return Identity(settings.node_id, version, settings.concurrency, settings.vendor_url is not None, folder)


async def _gates(settings: AgentSettings, folder: Path, stack: AsyncExitStack) -> Sequence[Gate]:
    if settings.emulator_avd is None:
        return GATES
    told = EmulatorSettings(settings.emulator_avd, settings.emulator_program, settings.adb_server[1], folder)
    emulators = await stack.enter_async_context(EmulatorProcesses(told, SystemClock()))
    return gates(emulators, settings.emulator_gate_wait_ms)
