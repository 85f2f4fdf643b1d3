"""Steps that switch a phone's accessibility service on; where one fails, somebody must do it by hand (spec/02)."""

from collections.abc import Mapping
from typing import Any, Final

_SETTING: Final = "enabled_accessibility_services"


def steps_for_accessibility(definition: Mapping[str, Any]) -> frozenset[str]:
    """The ids of those steps of a stored recipe whose command sets the setting."""
    return frozenset(step["id"] for step in definition["steps"] if _SETTING in str(step.get("command", "")))
