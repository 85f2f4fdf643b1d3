"""Who is online: nodes and phones in memory, written to the database in bulk (R8, design rule 8).

`last_seen` is this process's clock at receipt minus the age that the node reports (R8.6): a node's wrong clock never
makes a phone online or offline, nor does ours when it is set (`LastSigns`). A crash loses at most one flush period of
it, and the next heartbeat brings it back.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from muster.backend.last_signs import LastSigns
from muster.backend.node_clocks import NodeClocks
from muster.contracts.api import DeviceView, NodeStatus, NodeView
from muster.contracts.events import DeviceReport, NodeHeartbeat, NodeTrouble
from muster.domain.device import AttachState, emulator_port, is_online
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import devices, nodes
from muster.store.database import Database, StoreUnavailableError

FLUSH_INTERVAL_SEC: Final = 10
_PASSING: Final = frozenset(
    {
        "last_error_message",
        "troubles",
        "quarantined_devices_count",
        "reserved_devices_count",
        "dead_letters",
        "starts_emulators",
    }
)
HEARTBEAT_IDS_MAX: Final = 10_000
_log = get_logger()


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A row of `nodes`. Times are epoch ms; `last_vendor_ws_ok_at` is the node's clock."""

    node_id: str
    last_heartbeat_at: int | None = None
    agent_version: str | None = None
    connected_devices_count: int = 0
    running_devices_count: int = 0
    queue_devices_count: int = 0
    max_concurrency: int | None = None
    vendor_ws_ok: bool = False
    last_vendor_ws_ok_at: int | None = None
    outbox_depth: int = 0
    degraded: bool = False
    # From here on not in the database: true only until the next heartbeat.
    last_error_message: str | None = None
    troubles: tuple[NodeTrouble, ...] = ()
    quarantined_devices_count: int = 0
    reserved_devices_count: int = 0
    dead_letters: int = 0
    starts_emulators: bool = False


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A row of `devices`. `last_seen_at` is epoch ms of the backend's clock."""

    device_id: str
    node_id: str
    runtime_handle: str | None
    state: AttachState
    last_seen_at: int | None
    model: str | None = None
    battery: int | None = None
    temperature: float | None = None
    last_error_message: str | None = None


class Presence:
    """The one place that knows who is there. All methods but `load` and `flush` are immediate."""

    def __init__(self, clock: Clock, online_window_sec: int) -> None:
        self._clock = clock
        self._window_sec = online_window_sec
        self._nodes: dict[str, NodeRecord] = {}
        self._devices: dict[str, DeviceRecord] = {}
        self._unsaved_nodes: set[str] = set()
        self._unsaved_devices: set[str] = set()
        self._heartbeat_ids: OrderedDict[str, None] = OrderedDict()
        self._clocks = NodeClocks()
        self._heard = LastSigns(clock)
        self._seen = LastSigns(clock)

    # ---- what nodes report ----

    def register(self, node_id: str) -> None:
        """A node that asks for work is known from then on; it is offline until its first heartbeat."""
        if node_id not in self._nodes:
            self._put_node(NodeRecord(node_id))

    def heartbeat(self, event_id: str, beat: NodeHeartbeat) -> bool:
        """Takes a heartbeat in; False when this very one came before (it must not make anybody younger)."""
        if event_id in self._heartbeat_ids:
            return False
        self._heartbeat_ids[event_id] = None
        if len(self._heartbeat_ids) > HEARTBEAT_IDS_MAX:
            self._heartbeat_ids.popitem(last=False)
        now_ms = self._clock.now_ms()
        self._clocks.note(beat.node_id, beat.timestamp, now_ms)
        self._heard.note(beat.node_id)
        self._put_node(_node_record(beat, now_ms))
        for report in beat.devices:
            self._see(beat.node_id, report, now_ms)
        return True

    def _see(self, node_id: str, report: DeviceReport, now_ms: int) -> None:
        known = self._devices.get(report.device_id)
        is_newest = report.age_ms is not None and self._seen.note(report.device_id, report.age_ms)
        if known is not None and known.node_id != node_id and not is_newest:
            return  # plugged into another PC since: the newest sign of a phone tells where it is
        seen_at = max(now_ms - (report.age_ms or 0), 0) if is_newest else None
        self._devices[report.device_id] = DeviceRecord(
            device_id=report.device_id,
            node_id=node_id,
            runtime_handle=report.runtime_handle,
            state=report.state,
            last_seen_at=known.last_seen_at if known is not None and seen_at is None else seen_at,
            model=report.model or (known.model if known else None),
            battery=report.battery,
            temperature=report.temperature,
            last_error_message=report.last_error_message,
        )
        self._unsaved_devices.add(report.device_id)

    def _put_node(self, record: NodeRecord) -> None:
        if record.node_id not in self._nodes:
            _log.info("Node registered", node_id=record.node_id)
        self._nodes[record.node_id] = record
        self._unsaved_nodes.add(record.node_id)

    # ---- what others ask ----

    def known_devices(self) -> list[DeviceRecord]:
        """Every phone that was ever seen, by node and id."""
        return sorted(self._devices.values(), key=lambda device: (device.node_id, device.device_id))

    def device(self, device_id: str) -> DeviceRecord | None:
        """One phone."""
        return self._devices.get(device_id)

    def has_node(self, node_id: str) -> bool:
        """Whether the node was ever heard of."""
        return node_id in self._nodes

    def node_ids(self) -> list[str]:
        """Every node that was ever heard of."""
        return list(self._nodes)

    def node_silent_ms(self, node_id: str) -> int | None:
        """Since its last heartbeat; None: there never was one."""
        return self._heard.age_ms(node_id)

    def device_silent_ms(self, device_id: str) -> int | None:
        """Since the phone's last sign; None: there never was one."""
        return self._seen.age_ms(device_id)

    def is_degraded(self, node_id: str) -> bool:
        """Whether it said so last."""
        node = self._nodes.get(node_id)
        return node is not None and node.degraded

    def conditions(self) -> dict[str, Hashable]:
        """Of each node, what of its troubles is worth telling whoever watches: another value is news."""
        return {
            name: (node.degraded, node.last_error_message, tuple(trouble.reason for trouble in node.troubles))
            for name, node in self._nodes.items()
        }

    def is_device_online(self, device: DeviceRecord) -> bool:
        """R8.1."""
        return is_online(self._seen.age_ms(device.device_id), self._window_sec)

    def may_work(self, device: DeviceRecord) -> bool:
        """Online; or an emulator that is down, which its node starts when its turn comes (R2.1, docs/adr/0016)."""
        node = self._nodes.get(device.node_id)
        is_startable = node is not None and node.starts_emulators and self.is_node_online(node.node_id)
        is_emulator = emulator_port(device.runtime_handle or "") is not None
        return self.is_device_online(device) or (is_startable and is_emulator)

    def is_node_online(self, node_id: str) -> bool:
        """Whether its heartbeat came within the window."""
        return is_online(self._heard.age_ms(node_id), self._window_sec)

    def node_views(self) -> list[NodeView]:
        """All nodes, by id."""
        return [self._node_view(record) for _, record in sorted(self._nodes.items())]

    def node_view(self, node_id: str) -> NodeView | None:
        """One node."""
        record = self._nodes.get(node_id)
        return self._node_view(record) if record else None

    def _node_view(self, record: NodeRecord) -> NodeView:
        status: NodeStatus = "offline"
        if self.is_node_online(record.node_id):
            status = "degraded" if record.degraded else "online"
        known = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "degraded"}
        return NodeView(status=status, clock_skew_ms=self._clocks.ahead_ms(record.node_id), **known)

    def device_view(self, device: DeviceRecord) -> DeviceView:
        """A phone as it is told to clients."""
        known = {name: value for name, value in asdict(device).items() if name != "state"}
        return DeviceView(online=self.is_device_online(device), **known)

    # ---- memory and database ----

    async def load(self, database: Database) -> None:
        """Takes up what the last process knew."""
        async with database.reading() as tx:
            for row in await nodes.everything(tx):
                self._nodes[row.node_id] = NodeRecord(**row._mapping)
                self._heard.recall(row.node_id, row.last_heartbeat_at)
            for row in await devices.everything(tx):
                found = DeviceRecord(**row._mapping)
                self._devices[found.device_id] = replace(found, state=AttachState(found.state))
                self._seen.recall(found.device_id, found.last_seen_at)

    async def flush(self, database: Database) -> None:
        """Writes what has changed since the last flush. Raises StoreUnavailableError; then it is still unsaved."""
        node_ids, device_ids = self._unsaved_nodes, self._unsaved_devices
        if not node_ids and not device_ids:
            return
        self._unsaved_nodes, self._unsaved_devices = set(), set()
        try:
            async with database.writing() as tx:
                if node_ids:
                    saved = [self._nodes[node_id] for node_id in sorted(node_ids)]
                    await nodes.save(tx, [_lasting(row) for row in _rows(saved)])
                if device_ids:
                    await devices.save(tx, _rows(self._devices[device_id] for device_id in sorted(device_ids)))
        except BaseException:
            self._unsaved_nodes |= node_ids
            self._unsaved_devices |= device_ids
            raise

    async def keep_flushing(self, database: Database) -> None:
        """Flushes every FLUSH_INTERVAL_SEC for ever; a database that is gone for a while loses nothing."""
        while True:
            await self._clock.sleep(FLUSH_INTERVAL_SEC)
            try:
                await self.flush(database)
            except StoreUnavailableError as error:
                _log.warning("Presence could not be saved", reason=str(error))


def _node_record(beat: NodeHeartbeat, now_ms: int) -> NodeRecord:
    return NodeRecord(
        node_id=beat.node_id,
        last_heartbeat_at=now_ms,
        agent_version=beat.agent_version,
        connected_devices_count=beat.connected_devices_count,
        running_devices_count=beat.running_devices_count,
        queue_devices_count=beat.queue_devices_count,
        max_concurrency=beat.max_concurrency,
        vendor_ws_ok=beat.vendor_ws_ok,
        last_vendor_ws_ok_at=beat.last_vendor_ws_ok_at,
        outbox_depth=beat.outbox_depth,
        degraded=beat.degraded,
        last_error_message=beat.last_error_message,
        troubles=tuple(beat.troubles),
        quarantined_devices_count=beat.quarantined_devices_count,
        reserved_devices_count=beat.reserved_devices_count,
        dead_letters=beat.dead_letters,
        starts_emulators=beat.starts_emulators,
    )


def _lasting(row: dict[str, object]) -> dict[str, object]:
    """What is true beyond the next heartbeat."""
    return {name: value for name, value in row.items() if name not in _PASSING}


def _rows(records: Iterable[NodeRecord | DeviceRecord]) -> list[dict[str, object]]:
    return [asdict(record) for record in records]
