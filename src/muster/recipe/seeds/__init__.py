"""The recipes that are shipped and loaded at first start."""

import json
from importlib import resources
from typing import Any


def seed_documents() -> list[dict[str, Any]]:
    """Their documents, by workflow_id; each parses without errors or warnings (a test sees to it)."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".json")]
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(files, key=lambda file: file.name)]
