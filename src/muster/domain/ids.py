"""Names of things. A `DeviceId` is the phone for ever; a runtime handle is where it happens to be plugged in (R6)."""

import re
from typing import Final, NewType

NodeId = NewType("NodeId", str)
DeviceId = NewType("DeviceId", str)
RuntimeHandle = NewType("RuntimeHandle", str)
RunId = NewType("RunId", str)
TaskId = NewType("TaskId", str)
EventId = NewType("EventId", str)
CommandId = NewType("CommandId", str)
WorkflowId = NewType("WorkflowId", str)
StepId = NewType("StepId", str)

NODE_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
WORKFLOW_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
STEP_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
PARAM_KEY_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
# Stored as the vendor gives it (R6.1): anything printable. Storage keys encode it (domain/artifact_key.py).
DEVICE_ID_PATTERN: Final = r"^[^\x00-\x1f\x7f]{1,128}$"
VIDEO_ID_PATTERN: Final = r"^[^\x00-\x1f\x7f]{1,128}$"
UUID_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_NODE_ID = re.compile(NODE_ID_PATTERN)


def is_node_id(text: str) -> bool:
    """Whether `text` may name a node: letters, digits, `.`, `_`, `-`; at most 64; e.g. `PC-01`."""
    return _NODE_ID.fullmatch(text) is not None
