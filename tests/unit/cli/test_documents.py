"""What the manuals say is what the program does."""

import re
from pathlib import Path

import pytest
from tests.support.commands import Command

from muster.cli.main import COMMANDS
from muster.runtime.settings import TABLE, Row, load_settings

ROOT = Path(__file__).parents[3]
README, KOREAN = ROOT / "README.md", ROOT / "README.ko.md"
OPERATIONS = ROOT / "docs" / "operations.md"


def code_blocks(path: Path) -> list[str]:
    return re.findall(r"^```.*?^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands_in(path: Path) -> list[str]:
    blocks = "\n".join(code_blocks(path))
    return [line.strip() for line in blocks.splitlines() if line.startswith("muster ") and " ready" not in line]


@pytest.mark.parametrize("line", commands_in(README))
def test_every_command_of_the_readme_exists_with_its_options(muster: Command, line: str) -> None:
    words = line.split()[1:]
    assert words[0] in COMMANDS
    path = words[:2] if words[0] in ("run", "workflow") else words[:1]
    ran = muster(*path, "--help")
    assert ran.status == 0
    options = {word for word in words if word.startswith("--")}
    assert options <= set(re.findall(r"--[a-z-]+", ran.stdout)), line


def test_both_readmes_show_the_same_commands() -> None:
    assert code_blocks(README) == code_blocks(KOREAN)


@pytest.mark.parametrize("path", [README, KOREAN, OPERATIONS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_setting_is_in_the_manual_with_its_default(row: Row) -> None:
    name, default = row.name, row.default
    line = next(line for line in OPERATIONS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}`"))
    assert (default or "–") in line or name == "NODE_AGENT_SHARED_SECRET"


def test_the_file_that_the_manual_shows_can_be_read(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    (tmp_path / "muster.toml").write_text(example[1], encoding="utf-8")
    settings = load_settings({}, {}, tmp_path)
    assert (settings.node_id, settings.backend_url, settings.vendor_url) == ("PC-07", "http://10.0.0.5:8700", None)
