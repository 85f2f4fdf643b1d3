from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.runtime.settings import TABLE, HostPort, Settings, SettingsError, host_port, load_settings, require


def load(
    folder: Path,
    command_line: dict[str, str | int | Path | None] | None = None,
    environment: dict[str, str] | None = None,
) -> Settings:
    return load_settings(command_line or {}, environment or {}, folder)


def test_defaults_are_those_of_the_manual(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.data, settings.host, settings.port, settings.concurrency) == (
        Path(".muster"),
        "127.0.0.1",
        8700,
        20,
    )
    assert (settings.vendor_url, settings.adb_server) == ("ws://127.0.0.1:22222", HostPort("127.0.0.1", 5037))
    assert (settings.node_id, settings.secret, settings.origins["port"]) == (None, None, "default")


def test_the_command_line_wins_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    (tmp_path / "muster.toml").write_text('node_id = "file"\nMUSTER_PORT = 1\nmax_concurrency_per_node = 7\n')
    settings = load(tmp_path, {"NODE_ID": "line", "MUSTER_PORT": None}, {"NODE_ID": "env", "MUSTER_PORT": "2"})
    assert (settings.node_id, settings.port, settings.concurrency) == ("line", 2, 7)
    origins = [settings.origins[name] for name in ("node_id", "port", "concurrency", "host")]
    assert origins == ["command line", "environment", f"file {tmp_path / 'muster.toml'}", "default"]


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, environment={"MUSTER_PORT": ""}).port == 8700


def test_the_vendor_tool_can_be_turned_off(tmp_path: Path) -> None:
    assert load(tmp_path, {"VENDOR_WS_URL": "none"}).vendor_url is None


def test_the_agents_port_is_a_free_one_unless_it_is_given_or_turned_off(tmp_path: Path) -> None:
    assert load(tmp_path, {}).agent_http_port == 0
    assert load(tmp_path, {"AGENT_HTTP_PORT": "9105"}).agent_http_port == 9105
    off = load(tmp_path, {"AGENT_HTTP_PORT": "none"})
    assert off.agent_http_port is None
    assert [line.value for line in off.shown() if line.name == "AGENT_HTTP_PORT"] == ["none"]
    with pytest.raises(SettingsError, match="AGENT_HTTP_PORT"):
        load(tmp_path, {"AGENT_HTTP_PORT": "65536"})


def test_a_file_named_by_the_environment_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file"):
        load(tmp_path, environment={"MUSTER_CONFIG": str(tmp_path / "absent.toml")})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("MUSTER_PORT", "70000", "from 0 to 65535"),
        ("MUSTER_PORT", "-1", "whole number"),
        ("MUSTER_PORT", "٣", "whole number"),
        ("MAX_CONCURRENCY_PER_NODE", "0", "from 1 to"),
        ("NODE_ID", "PC 01", "PC-01"),
        ("NODE_ID", "PC-01\n", "PC-01"),
        ("BACKEND_URL", "127.0.0.1:8700", "http://127.0.0.1:8700"),
        ("MUSTER_URL", "http://x:99999", "http://127.0.0.1:8700"),
        ("VENDOR_WS_URL", "http://127.0.0.1", "ws://"),
        ("VENDOR_WS_URL", "ws://127.0.0.1:99999", "ws://127.0.0.1:22222"),
        ("VENDOR_WS_URL", "ws://127.0.0.1:0", "ws://127.0.0.1:22222"),
        ("VENDOR_WS_URL", "ws://127.0.0.1:22222#x", "ws://127.0.0.1:22222"),
        ("VENDOR_WS_URL", "ws://a phone:22222", "ws://127.0.0.1:22222"),
        ("ADB_SERVER", "5037", "HOST:PORT"),
        ("ADB_SERVER", "::1:5037", "HOST:PORT"),
        ("ONLINE_WINDOW_SEC", "15", "from 21"),
        ("NODE_AGENT_SHARED_SECRET", "short", "at least 8"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_its_origin_and_the_right_form(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: .*{says}.*from the environment") as caught:
        load(tmp_path, environment={name: text})
    assert caught.value.name == name


def test_a_bad_secret_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, environment={"MUSTER_TOKEN": "hush hush hush"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("node_idd = 'x'", "no setting 'node_idd'"),
        ("node_id = ", "not TOML"),
        ("node_id = true", "a text or a whole number"),
        ("[agent]\nnode_id = 'x'", "no setting 'agent'"),
        ("# " + "x" * 70_000, "larger than"),
    ],
)
def test_a_bad_file_is_refused_with_its_path(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "muster.toml").write_text(text)
    with pytest.raises(SettingsError, match="muster.toml.*" + says):
        load(tmp_path)


def test_what_is_shown_masks_secrets_and_passwords(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        environment={
            "NODE_AGENT_SHARED_SECRET": "very-secret-1",
            "MUSTER_TOKEN": "very-secret-2",
            "MUSTER_URL": "http://muster:very-secret-3@pc-1:8700",
        },
    )
    shown = {line.name: line.value for line in settings.shown()}
    assert "very-secret" not in repr(shown)
    assert shown["MUSTER_URL"] == "http://muster:***@pc-1:8700"
    assert (shown["NODE_ID"], shown["MUSTER_PORT"]) == (None, "8700")
    assert len(shown) == len(TABLE)


@pytest.mark.parametrize("name", ["BACKEND_URL", "VENDOR_WS_URL", "MUSTER_URL"])
@pytest.mark.parametrize(
    "text", ["muster:hidden@pc-1", "http//a:hidden@pc-1", "ftp://a:hid@pc-1", "ws:http://a:hid/@x"]
)
def test_an_address_that_is_refused_is_told_without_its_password(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name}: '.*\*\*\*@.*' is not an address") as refused:
        load(tmp_path, environment={name: text})
    assert "hid" not in str(refused.value)


@pytest.mark.parametrize("name", ["BACKEND_URL", "VENDOR_WS_URL", "MUSTER_URL"])
def test_a_password_that_a_text_would_show_is_refused_and_told_how_to_write(tmp_path: Path, name: str) -> None:
    scheme = "ws" if name == "VENDOR_WS_URL" else "http"
    with pytest.raises(SettingsError, match=rf"{name}: '{scheme}://\*\*\*@pc-1' .* not percent-encoded") as refused:
        load(tmp_path, environment={name: f'{scheme}://muster:hid"den@pc-1'})
    assert "hid" not in str(refused.value)
    load(tmp_path, environment={name: f"{scheme}://muster:hid%22den@pc-1"})


def test_what_is_required_and_missing_says_how_to_give_it() -> None:
    assert require("PC-01", "NODE_ID", "--node-id") == "PC-01"
    with pytest.raises(SettingsError, match="NODE_ID: is not set; give --node-id"):
        require(None, "NODE_ID", "--node-id")


@given(st.sampled_from(["127.0.0.1", "localhost", "pc-7.local", "::1"]), st.integers(0, 65_535))
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    address = HostPort(host, port)
    assert host_port(str(address)) == address


@given(st.sampled_from([row.name for row in TABLE]), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_text_breaks_the_reading_of_settings(name: str, text: str) -> None:
    try:
        load_settings({name: text}, {}, Path("no-such-folder"))
    except SettingsError as error:
        assert name in str(error)
