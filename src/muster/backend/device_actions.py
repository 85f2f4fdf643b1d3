"""`POST /api/devices/{id}/actions`: a command to the phone's node, audited (spec/04)."""

from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.bus import Bus
from muster.backend.presence import Presence
from muster.contracts.api import AuditEntry, DeviceActionAccepted, DeviceActionRequest
from muster.contracts.commands import DeviceAction, DeviceActionKind
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger
from muster.store import audit, commands
from muster.store.database import Database

ACTIONS_SHOWN_MAX: Final = 10
# Each of them says what the phone is to be kept for from then on: the last one counts.
_KEEPS: Final = frozenset({DeviceActionKind.QUARANTINE, DeviceActionKind.RESERVE, DeviceActionKind.RELEASE})
_log = get_logger()


class DeviceActions:
    """Asks nodes to do something to a phone."""

    def __init__(self, database: Database, presence: Presence, bus: Bus, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._presence = presence
        self._bus = bus
        self._clock = clock
        self._new_id = new_id

    async def request(self, device_id: str, asked: DeviceActionRequest, actor: str) -> DeviceActionAccepted | None:
        """Queues the command; None = no such phone. What waits already is not queued twice: a phone reboots once."""
        device = self._presence.device(device_id)
        if device is None:
            return None
        command = DeviceAction(command_id=self._new_id(), device_id=device_id, **asked.model_dump())
        async with self._database.writing() as tx:
            command_id = await _waiting(tx, device.node_id, command)
            if command_id is None:
                await self._queue(tx, device.node_id, command, actor)
        self._bus.wake(device.node_id)
        if command_id is None:
            _log.info(
                "Device action asked for", device_id=device_id, node_id=device.node_id, device_action=asked.action.value
            )
        return DeviceActionAccepted(
            command_id=command_id or command.command_id,
            node_id=device.node_id,
            device_id=device_id,
            action=asked.action,
        )

    async def last(self, device_id: str) -> list[AuditEntry]:
        """What people asked for of this phone, the newest first."""
        async with self._database.reading() as tx:
            rows = await audit.of_subject(tx, device_id, ACTIONS_SHOWN_MAX)
        return [AuditEntry.model_validate(dict(row._mapping)) for row in rows]

    async def _queue(self, tx: AsyncConnection, node_id: str, command: DeviceAction, actor: str) -> None:
        now_ms = self._clock.now_ms()
        row = {
            "command_id": command.command_id,
            "node_id": node_id,
            "run_id": None,
            "type": command.type,
            "body": command.model_dump(mode="json", exclude_none=True),
            "created_at": now_ms,
        }
        await commands.hand_out_actions_again(tx, node_id, command.device_id)
        await commands.add(tx, [row])
        await audit.add(
            tx,
            audit_id=self._new_id(),
            at=now_ms,
            actor=actor,
            action=f"device.{command.action.value}",
            subject=command.device_id,
            node_id=node_id,
            detail=_terms(command),
            command_id=command.command_id,
        )


def _terms(command: DeviceAction) -> dict[str, Any]:
    """What was asked for beside the action itself."""
    return command.model_dump(mode="json", exclude_none=True, exclude={"type", "command_id", "device_id", "action"})


async def _waiting(tx: AsyncConnection, node_id: str, wanted: DeviceAction) -> str | None:
    """The very same, waiting for its node already, and not taken back by one that waits behind it."""
    same = {"device_id": wanted.device_id, "action": wanted.action.value} | _terms(wanted)
    found = None
    for row in await commands.open_actions(tx, node_id):
        if {key: value for key, value in row.body.items() if key not in ("type", "command_id")} == same:
            found = str(row.command_id)
        elif row.body["device_id"] == wanted.device_id and {wanted.action, row.body["action"]} <= _KEEPS:
            found = None
    return found
