"""One agent for a node, one task for a phone, among all processes of this PC."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from muster.agent.locks import AlreadyRunningError, DeviceFileLocks, NodeLock

URL = "http://127.0.0.1:8700"
SERVER = ("127.0.0.1", 5037)


def node_lock(tmp_path: Path, *, url: str = URL, node: str = "PC-01", data: str = "data") -> NodeLock:
    (tmp_path / data).mkdir(exist_ok=True)
    return NodeLock(tmp_path / "state", tmp_path / data, url, node)


def test_a_second_agent_for_the_same_node_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    with (
        node_lock(tmp_path),
        pytest.raises(AlreadyRunningError, match=r"node PC-01 of http://127.0.0.1:8700.*process \d+"),
        node_lock(tmp_path, data="other"),
    ):
        pass


def test_a_second_agent_on_the_same_data_folder_is_refused(tmp_path: Path) -> None:
    with (
        node_lock(tmp_path),
        pytest.raises(AlreadyRunningError, match="the data folder"),
        node_lock(tmp_path, node="PC-02"),
    ):
        pass


def test_another_node_or_backend_with_its_own_data_may_run_beside_it(tmp_path: Path) -> None:
    with (
        node_lock(tmp_path),
        node_lock(tmp_path, node="PC-02", data="two"),
        node_lock(tmp_path, url="http://127.0.0.1:8701", data="three"),
    ):
        pass


def test_the_next_agent_may_start_when_the_first_has_ended_or_was_refused(tmp_path: Path) -> None:
    with node_lock(tmp_path), pytest.raises(AlreadyRunningError), node_lock(tmp_path, data="other"):
        pass
    with node_lock(tmp_path):
        pass
    with node_lock(tmp_path, data="other"):
        pass


def test_a_phone_is_one_agents_at_a_time(tmp_path: Path) -> None:
    with DeviceFileLocks(tmp_path, SERVER) as ours, DeviceFileLocks(tmp_path, SERVER) as theirs:
        assert ours.acquire("A")
        assert not theirs.acquire("A")
        assert theirs.why_refused("A") == f"another agent on this PC has the phone (process {os.getpid()})"
        assert theirs.acquire("B")
        ours.release("A")
        assert theirs.acquire("A")


def test_one_adb_server_has_one_set_of_locks_whatever_it_is_called(tmp_path: Path) -> None:
    with DeviceFileLocks(tmp_path, ("127.0.0.1", 5037)) as one, DeviceFileLocks(tmp_path, ("LocalHost", 5037)) as two:
        assert one.acquire("A")
        assert not two.acquire("A")


def test_the_same_id_at_another_adb_server_is_another_phone(tmp_path: Path) -> None:
    with DeviceFileLocks(tmp_path, SERVER) as one, DeviceFileLocks(tmp_path, ("127.0.0.1", 5038)) as two:
        assert one.acquire("A")
        assert two.acquire("A")


@pytest.mark.parametrize("device_id", ["../../etc/passwd", "a/b", "휴대폰", "x" * 128, "con", "192.168.0.5:5555"])
def test_an_id_of_any_kind_stays_in_the_lock_folder(tmp_path: Path, device_id: str) -> None:
    locks = DeviceFileLocks(tmp_path, SERVER)
    assert locks.acquire(device_id)
    (made,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert made.parent == tmp_path / "locks"
    locks.release(device_id)


def test_without_a_place_for_locks_nothing_may_be_started(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    locks = DeviceFileLocks(tmp_path, SERVER)
    assert locks.acquire("A")
    locks.release("A")
    (made,) = (tmp_path / "locks").iterdir()
    made.unlink()
    made.mkdir()
    assert not locks.acquire("A")
    assert "its lock cannot be had" in locks.why_refused("A") and str(tmp_path / "locks") in locks.why_refused("A")
    made.rmdir()
    assert locks.acquire("A")
    locks.release("A")


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib; from muster.agent.locks import DeviceFileLocks\n"
        "locks = DeviceFileLocks(pathlib.Path(sys.argv[1]), ('127.0.0.1', 5037))\n"
        "print(locks.acquire('A'), flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other, DeviceFileLocks(tmp_path, SERVER) as ours:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "True"
        assert not ours.acquire("A")
        other.kill()
        other.wait(20)
        assert ours.acquire("A")
