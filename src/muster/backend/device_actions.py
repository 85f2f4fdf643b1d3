"""`POST /api/devices/{id}/actions`: a command to the phone's node."""

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.bus import Bus
from muster.backend.presence import Presence
from muster.contracts.api import DeviceActionAccepted
from muster.contracts.commands import DeviceAction, DeviceActionKind
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger
from muster.store import commands
from muster.store.database import Database

_log = get_logger()


class DeviceActions:
    """Asks nodes to do something to a phone."""

    def __init__(self, database: Database, presence: Presence, bus: Bus, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._presence = presence
        self._bus = bus
        self._clock = clock
        self._new_id = new_id

    async def request(self, device_id: str, action: DeviceActionKind) -> DeviceActionAccepted | None:
        """Queues the command; None = no such phone. What waits already is not queued twice: a phone reboots once."""
        device = self._presence.device(device_id)
        if device is None:
            return None
        async with self._database.writing() as tx:
            waiting = await _waiting(tx, device.node_id, device_id, action)
            command_id = waiting or await self._queue(tx, device.node_id, device_id, action)
        self._bus.wake(device.node_id)
        if waiting is None:
            _log.info(
                "Device action asked for", device_id=device_id, node_id=device.node_id, device_action=action.value
            )
        return DeviceActionAccepted(command_id=command_id, node_id=device.node_id, device_id=device_id, action=action)

    async def _queue(self, tx: AsyncConnection, node_id: str, device_id: str, action: DeviceActionKind) -> str:
        command = DeviceAction(command_id=self._new_id(), device_id=device_id, action=action)
        row = {
            "command_id": command.command_id,
            "node_id": node_id,
            "run_id": None,
            "type": command.type,
            "body": command.model_dump(mode="json"),
            "created_at": self._clock.now_ms(),
        }
        await commands.add(tx, [row])
        return command.command_id


async def _waiting(tx: AsyncConnection, node_id: str, device_id: str, action: DeviceActionKind) -> str | None:
    for row in await commands.open_actions(tx, node_id):
        if (row.body["device_id"], row.body["action"]) == (device_id, action):
            return str(row.command_id)
    return None
