import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.commands import Command

from muster.cli.failing import CommandFailed
from muster.cli.main import COMMANDS, load_command
from muster.cli.output import clean
from muster.cli.parts import held_folder, known_secret, own_secret
from muster.runtime.logs import get_logger
from muster.runtime.settings import load_settings


@pytest.fixture
def nowhere() -> str:
    """The address of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(muster: Command, name: str) -> None:
    ran = muster(name, "--help")
    assert (ran.status, ran.stderr) == (0, "")
    assert f"muster {name}" in ran.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_commands_own_help_says(name: str) -> None:
    assert load_command(name).name is not None


def test_an_unknown_command_is_told_with_the_one_that_was_meant(muster: Command) -> None:
    ran = muster("devises")
    assert ran.status == 2
    assert "devices" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_an_unknown_option_is_told_on_one_line(muster: Command) -> None:
    ran = muster("devices", "--onlin")
    assert ran.status == 2
    assert len(ran.stderr.splitlines()) == 1


def test_a_command_without_its_argument_is_told_on_one_line_with_where_its_help_is(muster: Command) -> None:
    ran = muster("run", "show")
    assert ran.status == 2
    assert ran.stderr == "muster: Missing argument 'run'; try `muster run show --help`\n"


def test_a_word_that_is_none_of_those_that_may_be_given_is_told_with_them(muster: Command) -> None:
    ran = muster("run", "list", "--status", "bad")
    assert ran.stderr.startswith("muster: Invalid value for '--status': 'bad' is not one of 'queued', 'running', ")
    assert ran.stderr.endswith("; try `muster run list --help`\n")


def test_an_address_of_a_rack_that_is_none_is_told_with_one_that_is(muster: Command) -> None:
    ran = muster("sim", "list", "--control", "127.0.0.1:22280")
    assert ran.status == 2
    assert "'127.0.0.1:22280' is not an address such as http://127.0.0.1:22280" in ran.stderr


@pytest.mark.parametrize("command", [["devices"], ["nodes"], ["run", "list"], ["workflow", "list"]])
def test_no_backend_is_told_with_what_to_do(muster: Command, nowhere: str, command: list[str]) -> None:
    ran = muster(*command, "--url", nowhere)
    assert (ran.status, ran.stdout) == (2, "")
    assert "muster up" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_bad_address_is_told_by_the_name_of_its_setting(muster: Command) -> None:
    ran = muster("devices", "--url", "nonsense")
    assert ran.status == 2
    assert "MUSTER_URL" in ran.stderr


def test_settings_are_shown_with_their_origin_and_without_secrets(
    muster: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NODE_AGENT_SHARED_SECRET", "a-very-secret-text")
    (tmp_path / "muster.toml").write_text("node_id = 'PC-42'")
    ran = muster("settings", "--json")
    assert ran.document["NODE_ID"] == {"value": "PC-42", "origin": "file muster.toml"}
    assert ran.document["NODE_AGENT_SHARED_SECRET"]["origin"] == "environment"
    assert "a-very-secret-text" not in ran.stdout + muster("settings").stdout


def test_the_doctor_tells_what_is_missing_and_what_to_do(muster: Command, nowhere: str) -> None:
    address = nowhere.removeprefix("http://")
    ran = muster("doctor", "--url", nowhere, "--adb-server", address, "--vendor-url", f"ws://{address}", "--json")
    findings = {finding["check"]: finding for finding in ran.document}
    assert ran.status == 1
    assert [findings[name]["verdict"] for name in ("adb server", "vendor tool", "backend")] == ["warning"] * 2 + ["bad"]
    assert all(finding["advice"] for finding in ran.document if finding["verdict"] != "ok")
    assert "none" in muster("doctor", "--url", nowhere, "--adb-server", address).stdout


def test_a_taken_port_is_told_on_one_line(muster: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = muster("backend", "--port", str(taken.getsockname()[1]))
    assert ran.status == 2
    assert "cannot listen" in ran.stderr.splitlines()[-1]


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    first = held_folder(tmp_path / "data", "up.lock")
    with first, pytest.raises(CommandFailed, match="in use"), held_folder(tmp_path / "data", "up.lock"):
        pass
    with held_folder(tmp_path / "data", "up.lock"):
        pass


def test_a_secret_of_its_own_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    settings = load_settings({"MUSTER_DATA": tmp_path / "deep" / "data"}, {})
    secret = own_secret(settings)
    assert (len(secret), own_secret(settings)) == (32, secret)
    if os.name == "posix":
        assert stat.S_IMODE((settings.data / "secret").stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.data.parent.stat().st_mode) == 0o700


def test_a_given_secret_is_used_and_not_written_down(tmp_path: Path) -> None:
    settings = load_settings({"MUSTER_DATA": tmp_path}, {"NODE_AGENT_SHARED_SECRET": "given-secret"})
    assert own_secret(settings) == "given-secret"
    assert not (tmp_path / "secret").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", "a b"), ("\x1b[31mred", "�[31mred"), ("a\tb", "a b"), ("\x9b1m", "�1m"), ("한국어", "한국어")],
)
def test_text_for_a_terminal_has_no_control_characters(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_help_starts_without_the_heavy_parts() -> None:
    script = (
        "import sys, json; from muster.cli.main import main; main(['--help']); print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(ran.stdout.splitlines()[-1]))
    assert not loaded & {"httpx2", "fastapi", "sqlalchemy", "pydantic", "muster.backend", "muster.agent", "muster.sim"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_what_a_command_s_parts_log_goes_to_stderr(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    load_command(command)
    get_logger().warning("The disk is slow", device_id="A")
    get_logger().info("Nothing of note")
    told = capsys.readouterr()
    assert told.out == ""
    assert "[device_id=A] The disk is slow" in told.err
    assert "Nothing of note" not in told.err


@pytest.mark.parametrize("content", [b"hidden\x01hidden", b"hidden \xff hidden", b"hid", b"hidden\nhidden"])
def test_a_file_that_holds_no_secret_is_refused_without_a_piece_of_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    (tmp_path / "secret").chmod(0o600)
    with pytest.raises(CommandFailed, match="does not hold a secret; remove it") as refused:
        known_secret(load_settings({"MUSTER_DATA": tmp_path}, {}))
    assert "hid" not in str(refused.value)
