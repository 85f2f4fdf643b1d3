"""adb's list and the vendor tool's list joined by device_id."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.agent.devices import OFFLINE_DEBOUNCE_SEC, AdbEntry, Registry, Told, VendorEntry
from muster.agent.identities import Identities, from_document, to_document
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.limits import VENDOR_BOOT_WAIT_MS

READY, OFFLINE, ASKING = AttachState.DEVICE, AttachState.OFFLINE, AttachState.UNAUTHORIZED
BOOT_WAIT_SEC = VENDOR_BOOT_WAIT_MS / 1000
TCP = "192.168.0.7:5555"


class Node:
    """A registry, and a clock in seconds."""

    def __init__(self, *, identities: Identities | None = None, expects_vendor: bool = False) -> None:
        self.registry = Registry(identities=identities or Identities(), expects_vendor=expects_vendor)
        self.now = 100.0

    def adb(self, *entries: tuple[str, AttachState], error: str | None = None) -> None:
        self.registry.saw_adb([AdbEntry(handle, state) for handle, state in entries], self.now, error=error)
        self.registry.rebuild(self.now)

    def vendor(self, *entries: VendorEntry) -> None:
        self.registry.saw_vendor(entries)
        self.registry.rebuild(self.now)

    def told(self, handle: str, serialno: str | None, boot_id: str | None = None) -> None:
        self.registry.told(handle, Told(serialno, model="Pixel", boot_id=boot_id, battery=80))
        self.registry.rebuild(self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.registry.rebuild(self.now)

    @property
    def ids(self) -> list[str]:
        return [status.device_id for status in self.registry.all(self.now)]

    def state(self, name: str) -> AttachState | None:
        status = self.registry.status(name, self.now)
        return status.state if status else None


# ---- by adb alone ----------------------------------------------------------------------------------------------------


def test_without_a_vendor_tool_a_phone_is_known_by_its_own_serial_once_it_told_it() -> None:
    node = Node()
    node.adb((TCP, READY))
    assert node.ids == [] and node.registry.unasked() == [TCP]
    node.told(TCP, "R5CT1")
    status = node.registry.status("R5CT1", node.now)
    assert status is not None and (status.runtime_handle, status.state, status.battery) == (TCP, READY, 80)


def test_a_phone_that_is_offline_for_a_moment_when_it_first_comes_is_not_told() -> None:
    node = Node()
    node.adb(("USB1", OFFLINE))
    assert node.ids == []
    node.wait(OFFLINE_DEBOUNCE_SEC / 2)
    node.adb(("USB1", READY))
    node.told("USB1", "USB1")
    assert node.state("USB1") is READY
    node.adb(("USB1", READY), ("USB2", OFFLINE))
    node.wait(OFFLINE_DEBOUNCE_SEC)
    assert node.state("USB2") is OFFLINE, "it stays offline: now it is told"


def test_a_phone_that_cannot_be_asked_is_known_by_its_usb_serial_and_a_tcp_stranger_gets_no_id() -> None:
    node = Node()
    node.adb(("USB1", ASKING), (TCP, ASKING))
    assert node.ids == ["USB1"] and node.state("USB1") is ASKING
    assert node.registry.strangers() == (TCP,)


def test_a_phone_that_cannot_be_asked_is_known_by_the_last_id_of_its_handle() -> None:
    before = Node()
    before.adb((TCP, READY))
    before.told(TCP, "R5CT1")
    node = Node(identities=from_document(to_document(before.registry.identities)))
    node.adb((TCP, ASKING))
    assert node.ids == ["R5CT1"] and node.registry.strangers() == ()


def test_a_phone_that_does_not_say_who_it_is_is_shown_with_the_cause() -> None:
    node = Node()
    node.adb(("USB1", READY))
    node.registry.not_told("USB1", "it did not answer within 10 s")
    node.wait(0)
    status = node.registry.status("USB1", node.now)
    assert status is not None and status.last_error_message == "it did not answer within 10 s"
    assert node.registry.silent() == ["USB1"]


def test_a_phone_that_comes_back_is_asked_again_for_it_may_be_another_one_at_the_same_address() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    node.adb((TCP, OFFLINE))
    node.adb((TCP, READY))
    assert node.registry.unasked() == [TCP]
    assert node.state("R5CT1") is READY, "until it says otherwise it is the one it was"
    node.told(TCP, "R5CT2")
    assert (node.state("R5CT1"), node.state("R5CT2")) == (AttachState.MISSING, READY)


def test_a_phone_that_goes_is_missing_since_the_moment_it_went() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    node.wait(50)
    node.adb()
    gone_at = node.now
    node.wait(7)
    status = node.registry.status("R5CT1", node.now)
    assert status is not None and (status.state, status.last_seen) == (AttachState.MISSING, gone_at)


@pytest.mark.parametrize(("state", "ages"), [(READY, False), (ASKING, False), (OFFLINE, True)])
def test_offline_is_no_sign_of_life_and_asking_for_authorization_is_one(state: AttachState, ages: bool) -> None:
    node = Node()
    node.adb(("USB1", READY))
    node.told("USB1", "USB1")
    node.adb(("USB1", state))
    then = node.now
    node.wait(31)
    status = node.registry.status("USB1", node.now)
    assert status is not None and status.last_seen == (then if ages else node.now)


def test_when_the_adb_server_is_gone_every_phone_is_missing_and_says_why() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    node.adb(error="the adb server is gone")
    status = node.registry.status("R5CT1", node.now)
    assert status is not None and status.last_error_message == "the adb server is gone"
    assert status.state is AttachState.MISSING


# ---- with the vendor tool --------------------------------------------------------------------------------------------


def test_the_vendors_only_serial_is_the_device_id_and_the_phones_own_serial_finds_it_too() -> None:
    node = Node(expects_vendor=True)
    node.vendor(VendorEntry(TCP, "ONLY1"))
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    assert node.ids == ["ONLY1"]
    assert node.state("R5CT1") is READY, "the alias finds it"


def test_at_boot_a_phone_waits_for_the_vendor_to_name_it_and_then_no_longer() -> None:
    node = Node(expects_vendor=True)
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    assert node.ids == [] and node.registry.withheld(node.now) == [TCP]
    node.wait(BOOT_WAIT_SEC)
    assert node.ids == ["R5CT1"] and node.registry.withheld(node.now) == []


def test_a_vendor_tool_that_comes_later_binds_its_name_as_an_alias_and_the_first_id_stays() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    node.vendor(VendorEntry(TCP, "ONLY1"))
    assert node.ids == ["R5CT1"]
    assert node.state("ONLY1") is READY


def test_the_first_id_stays_across_restarts_too() -> None:
    first = Node()
    first.adb((TCP, READY))
    first.told(TCP, "R5CT1")
    again = Node(identities=from_document(to_document(first.registry.identities)), expects_vendor=True)
    again.vendor(VendorEntry("10.0.0.9:5555", "ONLY1"))
    again.adb(("10.0.0.9:5555", READY))
    again.told("10.0.0.9:5555", "R5CT1")
    assert again.ids == ["R5CT1"]


def test_the_same_only_serial_under_another_serial_is_the_same_phone() -> None:
    node = Node(expects_vendor=True)
    node.vendor(VendorEntry("USB1", "ONLY1"))
    node.adb(("USB1", READY))
    node.told("USB1", "R5CT1")
    node.adb()
    node.vendor(VendorEntry(TCP, "ONLY1"))
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    status = node.registry.status("ONLY1", node.now)
    assert node.ids == ["ONLY1"] and status is not None and status.runtime_handle == TCP


def test_phones_that_share_one_serial_of_their_own_are_told_apart_by_the_vendor() -> None:
    node = Node(expects_vendor=True)
    node.vendor(VendorEntry("a:1", "ONLY1"), VendorEntry("b:1", "ONLY2"))
    node.adb(("a:1", READY), ("b:1", READY))
    node.told("a:1", "0123456789ABCDEF")
    node.told("b:1", "0123456789ABCDEF")
    assert node.ids == ["ONLY1", "ONLY2"]
    assert {status.problem for status in node.registry.all(node.now)} == {None}


def test_a_phone_without_adb_is_shown_with_the_reason_why_no_task_can_use_it() -> None:
    node = Node(expects_vendor=True)
    node.vendor(VendorEntry("acc-1", "ONLY1", model="Mi", has_adb=False))
    status = node.registry.status("ONLY1", node.now)
    assert status is not None and status.state is AttachState.MISSING
    assert "accessibility" in (status.last_error_message or "")
    assert status.last_seen == node.now, "the tool sees it"


def test_when_the_vendor_tool_falls_silent_its_phones_keep_their_ids() -> None:
    node = Node(expects_vendor=True)
    node.vendor(VendorEntry(TCP, "ONLY1"))
    node.adb((TCP, READY))
    node.told(TCP, "R5CT1")
    node.registry.saw_vendor(None)
    node.wait(60)
    assert node.ids == ["ONLY1"] and not node.registry.in_vendor_list(TCP)


# ---- two with one id -------------------------------------------------------------------------------------------------


def test_two_live_phones_with_one_id_are_a_conflict_until_one_goes() -> None:
    node = Node()
    node.adb(("a:1", READY), ("b:1", READY))
    node.told("a:1", "SAME", boot_id="boot-a")
    node.told("b:1", "SAME", boot_id="boot-b")
    status = node.registry.status("SAME", node.now)
    assert status is not None and status.problem is FailureReason.IDENTITY_CONFLICT
    assert "a:1, b:1" in (status.last_error_message or "")
    node.adb(("b:1", READY))
    status = node.registry.status("SAME", node.now)
    assert status is not None and (status.problem, status.runtime_handle) == (None, "b:1")


def test_one_phone_by_cable_and_by_wifi_is_no_conflict_and_the_way_in_use_is_kept() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.told(TCP, "SAME", boot_id="boot-a")
    node.adb((TCP, READY), ("USB1", READY))
    node.told("USB1", "SAME", boot_id="boot-a")
    status = node.registry.status("SAME", node.now)
    assert status is not None and (status.problem, status.runtime_handle) == (None, TCP)
    node.adb(("USB1", READY))
    status = node.registry.status("SAME", node.now)
    assert status is not None and (status.state, status.runtime_handle) == (READY, "USB1")


def test_a_dead_way_beside_a_live_one_is_no_conflict() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.told(TCP, "SAME")
    node.adb((TCP, OFFLINE), ("USB1", READY))
    node.told("USB1", "SAME")
    status = node.registry.status("SAME", node.now)
    assert status is not None and (status.problem, status.runtime_handle, status.state) == (None, "USB1", READY)


# ---- whatever comes --------------------------------------------------------------------------------------------------

STATES = st.sampled_from([READY, OFFLINE, ASKING])
HANDLES = st.sampled_from(["USB1", "USB2", "a:1", "b:1"])
NAMES = st.sampled_from(["X", "Y", "Z", None])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("adb"), st.dictionaries(HANDLES, STATES).map(lambda found: list(found.items()))),
        st.tuples(st.just("vendor"), st.lists(st.tuples(HANDLES, st.sampled_from(["X", "P", "Q"])), max_size=4)),
        st.tuples(st.just("told"), st.tuples(HANDLES, NAMES)),
        st.tuples(st.just("wait"), st.floats(0, 10)),
    ),
    max_size=30,
)  # fmt: skip


def play(node: Node, events: Sequence[tuple[str, object]]) -> None:
    for kind, what in events:
        match kind, what:
            case "adb", list(entries):
                node.adb(*entries)
            case "vendor", list(entries):
                node.vendor(*(VendorEntry(handle, only) for handle, only in entries))
            case "told", (str(handle), (str() | None) as name):
                node.told(handle, name)
            case "wait", float(seconds):
                node.wait(seconds)


@given(EVENTS, st.booleans())
def test_each_phone_has_one_row_and_each_handle_serves_one_id(
    events: list[tuple[str, object]], expects_vendor: bool
) -> None:
    node = Node(expects_vendor=expects_vendor)
    play(node, events)
    statuses = node.registry.all(node.now)
    usable = [status.runtime_handle for status in statuses if status.state is READY and status.problem is None]
    assert len(usable) == len(set(usable)), "no two ids lead to one phone"
    assert set(usable) <= set(node.registry.ready_handles())
    assert all(node.registry.identities.resolve(status.device_id) == status.device_id for status in statuses)
    assert all(status.last_seen is None or status.last_seen <= node.now for status in statuses)


@given(EVENTS)
def test_an_id_once_announced_goes_on_finding_its_row(events: list[tuple[str, object]]) -> None:
    node = Node()
    announced: set[str] = set()
    for event in events:
        play(node, [event])
        announced |= set(node.ids)
        assert all(node.registry.status(device_id, node.now) is not None for device_id in announced)


@given(EVENTS)
def test_what_is_kept_on_disk_gives_the_same_ids_again(events: list[tuple[str, object]]) -> None:
    node = Node()
    play(node, events)
    kept = from_document(to_document(node.registry.identities))
    assert list(kept.names.items()) == list(node.registry.identities.names.items())
    assert kept.handles == node.registry.identities.handles


@pytest.mark.parametrize("rubbish", [None, [], {"names": 5}, {"names": {"a": 1}, "handles": []}, "x"])
def test_a_file_of_rubbish_counts_as_nothing_known(rubbish: object) -> None:
    assert from_document(rubbish) == Identities()


def test_rebuild_says_whether_anything_but_battery_and_time_changed() -> None:
    node = Node()
    node.adb((TCP, READY))
    node.registry.told(TCP, Told("R5CT1", battery=80))
    assert node.registry.rebuild(node.now) is True
    node.registry.told(TCP, Told("R5CT1", battery=79))
    assert node.registry.rebuild(node.now + 1) is False
    node.registry.saw_adb([], node.now + 2)
    assert node.registry.rebuild(node.now + 2) is True
