"""The way to the backend: `link.BackendLink` over a network that loses, delays, doubles and cuts off after the fact."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.world.backend import Backend
from tests.world.disk import Disk
from tests.world.life import Life
from tests.world.streams import Streams

from muster.agent.link import LinkBroken, LinkRefused
from muster.contracts.api import UploadRequest, UploadTicket
from muster.contracts.commands import PullAnswer
from muster.contracts.events import CallbackAnswer, EventVerdict

T = TypeVar("T")
HANG_SEC = 100.0


@dataclass
class Network:
    """The faults of the moment. Rates are per request."""

    streams: Streams
    later: Callable[[float, Callable[[], None]], None]
    latency_sec: float = 0.005
    is_away: bool = False
    is_unauthorized: bool = False
    loses: float = 0.0
    loses_answer: float = 0.0
    hangs: float = 0.0
    errs: float = 0.0
    doubles: float = 0.0
    holds_back: float = 0.0
    batch_max: int = 1_000
    upload_fails: float = 0.0
    _drawing: dict[str, random.Random] = field(default_factory=dict)

    def heal(self) -> None:
        self.is_away = self.is_unauthorized = False
        self.loses = self.loses_answer = self.hangs = self.errs = self.doubles = self.holds_back = 0.0
        self.upload_fails = 0.0
        self.batch_max = 1_000
        self.latency_sec = 0.005

    def draw(self, what: str) -> random.Random:
        """From this thing's own stream."""
        if what not in self._drawing:
            self._drawing[what] = self.streams(f"network {what}")
        return self._drawing[what]

    def strikes(self, kind: str) -> bool:
        """`kind`: the name of its rate."""
        rate: float = getattr(self, kind)
        return rate > 0 and self.draw(kind).random() < rate

    async def take_its_time(self) -> None:
        """One way."""
        await asyncio.sleep(self.draw("latency").expovariate(1 / self.latency_sec))


class MemoryLink:
    """Of one process: its `instance_id` is the process's own."""

    def __init__(self, network: Network, backend: Backend, disk: Disk, life: Life) -> None:
        self._network = network
        self._backend = backend
        self._disk = disk
        self._life = life
        self._instance = f"instance-{life.number}"
        self._commands = asyncio.Event()
        backend.is_new_command = self._commands.set

    async def pull(self, wait_ms: int) -> PullAnswer:
        await self._on_the_way()
        if self._backend.is_taken_by_another(self._instance):
            raise LinkRefused(409, "another agent works under this node's id")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1000
        while not (bodies := self._backend.hand_out(self._instance)) and loop.time() < deadline:
            due = self._backend.next_due(self._instance)
            self._commands.clear()
            try:
                async with asyncio.timeout_at(min(deadline, due if due is not None else deadline)):
                    await self._commands.wait()
            except TimeoutError:
                continue
        await self._on_the_way_back()
        return PullAnswer(commands=bodies)

    async def callback(self, events: Sequence[dict[str, Any]]) -> CallbackAnswer:
        await self._on_the_way()
        if len(events) > self._network.batch_max:
            raise LinkRefused(413, "too many events")
        held_back = {index for index in range(len(events)) if self._network.strikes("holds_back")}
        taken = [event for index, event in enumerate(events) if index not in held_back]
        verdicts = iter(self._backend.ingest(taken))
        self._double(lambda: self._backend.ingest(taken))
        results = [
            EventVerdict(event_id=event["event_id"], ok=False, status=429) if index in held_back else next(verdicts)
            for index, event in enumerate(events)
        ]
        await self._on_the_way_back()
        self._backend.note_told(events, results)
        return CallbackAnswer(ok=all(result.ok for result in results), results=results)

    async def request_upload(self, request: UploadRequest) -> UploadTicket:
        await self._on_the_way()
        if self._network.strikes("upload_fails"):
            raise LinkBroken("503: the store is away")
        ticket = self._backend.allow(request)
        await self._on_the_way_back()
        if ticket is None:
            raise LinkRefused(422, "there is no such task")
        return ticket

    async def put_object(self, ticket: UploadTicket, path: Path) -> None:
        await self._on_the_way()
        if self._network.strikes("upload_fails"):
            raise LinkBroken("503: the store is away")
        content = self._disk.files.get(path.name)
        if content is None:
            raise FileNotFoundError(path)
        is_as_announced = self._backend.receive(ticket.key, content)
        await self._on_the_way_back()
        if not is_as_announced:
            raise LinkRefused(422, "the bytes are not the ones that were announced")

    async def leave(self) -> None:
        await self._on_the_way()
        self._backend.leave(self._instance)

    # ---- the network -------------------------------------------------------------------------------------------------

    async def _on_the_way(self) -> None:
        """Raises when the request does not reach the backend or is turned away there."""
        self._life.must_be_alive()
        network = self._network
        await network.take_its_time()
        if network.is_away:
            raise LinkBroken("connection refused")
        if network.is_unauthorized:
            raise LinkRefused(401, "the secret is wrong")
        if network.strikes("loses"):
            raise LinkBroken("connection reset")
        if network.strikes("errs"):
            raise LinkBroken("500: internal error")
        if network.strikes("hangs"):
            await asyncio.sleep(HANG_SEC)
            raise LinkBroken("no answer")

    async def _on_the_way_back(self) -> None:
        """The backend has done it; raises when its answer does not arrive."""
        network = self._network
        await network.take_its_time()
        if network.is_away or network.strikes("loses_answer"):
            if network.draw("a slow cut").random() < 0.3:
                await asyncio.sleep(HANG_SEC)
            raise LinkBroken("the connection was cut before the answer came")

    def _double(self, again: Callable[[], object]) -> None:
        """The same request once more, now or much later: a proxy that tries again."""
        if self._network.strikes("doubles"):
            self._network.later(self._network.draw("when doubled").choice([0.0, 0.5, 20.0]), lambda: void(again()))


def void(_: object) -> None:
    """For callbacks that answer nothing."""
