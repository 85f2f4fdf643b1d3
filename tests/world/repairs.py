"""What can be done to a simulated phone's connection; whatever it would break is noted, for the checkers to judge."""

import asyncio
import random
from dataclasses import dataclass

from tests.world.phones import SeenRack, SimPhone

from muster.agent.preflight.device import Answers
from muster.agent.preflight.gate import Subject
from muster.agent.repairs import ASK_TIMEOUT_MS, RepairFailed
from muster.domain.device import AttachState
from muster.recipe.conditions import DeviceFacts
from muster.runtime.clock import Clock

REBOOT_SEC = 12.0


@dataclass
class SimRepairs:
    """`repairs.Repairs` of one process."""

    seen: SeenRack
    clock: Clock
    rng: random.Random

    async def answers(self, device_id: str) -> bool:
        subject = Subject(device_id, self.seen, self.clock, ASK_TIMEOUT_MS, DeviceFacts(device_id))
        return self.seen.find(device_id) is not None and await Answers().check(subject) is None

    async def port_answers(self, handle: str) -> bool:
        await asyncio.sleep(0.01)
        phone = self._phone(handle)
        return phone is not None and phone.state is AttachState.DEVICE

    async def reconnect(self, handle: str) -> None:
        await self.reattach(handle)

    async def reattach(self, handle: str) -> None:
        """Makes the connection anew, under a new handle; half of the phones that hang are well after that."""
        await asyncio.sleep(self.rng.uniform(0.2, 1.0))
        phone = self._phone(handle)
        if phone is None or phone.state is not AttachState.DEVICE:
            raise RepairFailed(f"nothing answers at {handle}")
        self._break(phone, "reattached")
        if self.rng.random() < 0.5:
            phone.hangs_until = 0.0

    async def reboot(self, handle: str) -> None:
        await asyncio.sleep(0.2)
        phone = self._phone(handle)
        if phone is None or phone.state is not AttachState.DEVICE:
            raise RepairFailed(f"nothing answers at {handle}")
        self._break(phone, "rebooted")
        phone.hangs_until = phone.now() + REBOOT_SEC

    async def restart_server(self) -> None:
        await asyncio.sleep(0.2)
        for phone in self.seen.rack.phones.values():
            self._break(phone, "restarted")

    def _break(self, phone: SimPhone, how: str) -> None:
        self.seen.life.must_be_alive()
        self.seen.trace.note("repair", phone.device_id, how)
        phone.epoch += 1
        self.seen.rack.is_changed()

    def _phone(self, handle: str) -> SimPhone | None:
        phones = self.seen.rack.phones.values()
        return next((phone for phone in phones if phone.runtime_handle == handle), None)
