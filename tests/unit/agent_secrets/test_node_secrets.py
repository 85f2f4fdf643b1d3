"""The node's secrets file: what is taken, what is refused, and that no refusal tells a value."""

import sys
from pathlib import Path

import pytest

from muster.agent.composition import AgentCannotStart, AgentSettings
from muster.agent.main import run_agent
from muster.agent.secrets import NodeSecrets, SecretsError, load_secrets

CANARY = "hunter2-canary"
needs_modes = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "secrets.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_phones_own_value_wins_over_the_nodes(tmp_path: Path) -> None:
    secrets = load_secrets(written(tmp_path, 'node: {A: "node-a", B: node-b}\ndevices: {X 1: {A: "own-a"}}\n'))
    assert secrets.of("X 1") == {"A": "own-a", "B": "node-b"}
    assert secrets.of("Y") == {"A": "node-a", "B": "node-b"}
    assert secrets.values() == {"node-a", "node-b", "own-a"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "node:\ndevices:\n", "devices: {ABC: }"])
def test_an_empty_file_holds_no_secrets(tmp_path: Path, text: str) -> None:
    assert load_secrets(written(tmp_path, text)).values() == frozenset()


def test_digits_with_leading_zeros_stay_as_they_are(tmp_path: Path) -> None:
    assert load_secrets(written(tmp_path, "node: {PIN: 0042}")).of("any") == {"PIN": "0042"}


def test_what_is_not_there_is_refused_only_when_it_was_asked_for(tmp_path: Path) -> None:
    assert load_secrets(tmp_path / "absent.yaml", must_exist=False) == NodeSecrets()
    with pytest.raises(SecretsError, match=r"no secrets file .*absent\.yaml"):
        load_secrets(tmp_path / "absent.yaml")
    with pytest.raises(SecretsError, match=r"not a file|cannot be read"):
        load_secrets(tmp_path)


@needs_modes
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601, 0o620])
def test_a_file_that_others_can_read_is_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, f"node: {{A: {CANARY}}}", mode)
    with pytest.raises(SecretsError, match=f"{mode:04o}.*chmod 600") as refused:
        load_secrets(path)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"- {CANARY}", "two keys"),
        (CANARY, "two keys"),
        (f"nodes: {{A: {CANARY}}}", "two keys"),
        (f"node: {CANARY}", "node: must hold names"),
        (f"devices: [{CANARY}]", "devices: must hold"),
        (f"devices: {{ABC: {CANARY}}}", r"devices\.ABC: must hold names"),
        ("node: {PIN: 123456}", r"node\.PIN: must be text; put it in quotes"),
        ("node: {PIN: true}", r"node\.PIN: must be text"),
        ("node: {PIN: '123'}", r"node\.PIN: is shorter than 4"),
        ("node: {PIN: '     '}", r"node\.PIN: is shorter than 4"),
        (f'node: {{PIN: "{CANARY}\\nmore"}}', r"node\.PIN: holds a line end"),
        (f'node: {{PIN: "{"x" * 9000}{CANARY}"}}', r"node\.PIN: is longer than"),
        (f"node: {{'a-b': {CANARY}}}", "node: a name has letters"),
        (f"node: {{A: {CANARY}, A: {CANARY}}}", "line 1, column"),
        (f"node: {{A: *{CANARY}}}", "line 1, column"),
        (f"node: {{A: '{CANARY}}}", "line 1, column"),
        (f"node: {{A: !!python/name:{CANARY} x}}", "no YAML"),
        (f"node:\n\tA: {CANARY}", "line 2, column"),
        (f"node: {{A: {CANARY}, B: 5}}", r"node\.B"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_without_a_word_of_its_content(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(SecretsError, match=says) as refused:
        load_secrets(written(tmp_path, text))
    assert CANARY not in str(refused.value) and "123456" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_bytes(b"node: {A: \xff\xfe}")
    with pytest.raises(SecretsError, match="not UTF-8"):
        load_secrets(path)
    path.write_bytes(b"#" * 1_000_000)
    with pytest.raises(SecretsError, match="larger than"):
        load_secrets(path)


def test_printing_the_secrets_prints_no_value() -> None:
    assert CANARY not in repr(NodeSecrets({"A": CANARY}, {"X": {"B": CANARY}}))


@needs_modes
@pytest.mark.parametrize("given", [True, False])
async def test_the_agent_refuses_to_start_with_a_file_that_others_can_read(tmp_path: Path, given: bool) -> None:
    path = written(tmp_path, f"node: {{A: {CANARY}}}", 0o644)
    settings = AgentSettings(
        backend_url="http://127.0.0.1:1",
        node_id="PC-01",
        data_dir=tmp_path,
        secret=None,
        adb_server=("127.0.0.1", 1),
        vendor_url=None,
        state_dir=tmp_path / "state",
        secrets_file=path if given else None,
    )
    with pytest.raises(AgentCannotStart, match="chmod 600"):
        await run_agent(settings, on_ready=print)
