"""Facts about the tree that nobody should have to remember."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "src" / "muster").rglob("*.py"))
LINES_MAX = 500


@pytest.mark.parametrize("kind", ["runtime", "dev"])
def test_requirements_are_pinned_by_hash_and_name_no_index(kind: str) -> None:
    text = (ROOT / "requirements" / f"{kind}.txt").read_text()
    pins = re.findall(r"^[a-z0-9._\[\]-]+==\S+.*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(pins) > 20
    assert all("--hash=sha256:" in pin for pin in pins)
    assert "://" not in text
    assert "index" not in text


def test_no_module_grows_into_a_god_file() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > LINES_MAX} == {}


def test_no_room_is_named_for_leftovers() -> None:
    assert [path for path in MODULES if path.stem in {"utils", "util", "common", "helpers", "misc"}] == []


def _handlers(path: Path) -> list[ast.ExceptHandler]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]


def test_no_handler_swallows_every_exception() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{handler.lineno}"
        for path in MODULES
        for handler in _handlers(path)
        if (handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"})
        and all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)
    ]
    assert found == []


def _files_of_the_project() -> Iterator[Path]:
    """Without what tools keep beside them, where files come and go while another test run works in the same folder."""
    for folder, inside, names in os.walk(ROOT):
        inside[:] = [name for name in inside if name not in {"node_modules", "__pycache__"} and name[0] != "."]
        yield from (Path(folder, name) for name in names)


def test_the_project_names_no_registry_and_no_machine_path() -> None:
    pattern = re.compile(
        r"pypi\.org|pythonhosted|registry\.npmjs|deb\.debian\.org|--(extra-)?index-url|(^|[\s\"'=])/(work|farm)/"
    )
    texts = [
        path
        for path in _files_of_the_project()
        if path.suffix in {".py", ".md", ".toml", ".sh", ".yaml", ".json", ".html", ".js", ".css", ".txt"}
        and path != Path(__file__).resolve()
    ]
    assert len(texts) > 500
    assert [path for path in texts if pattern.search(path.read_text(errors="replace"))] == []
