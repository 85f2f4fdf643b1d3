"""What spec/03 promises of every payload, whatever the event."""

import json
from typing import Any

import pytest

from muster.contracts.events import (
    ArtifactStored,
    CommandAck,
    EventType,
    NodeHeartbeat,
    Payload,
    RunFinished,
    RunStarted,
    TaskFinished,
    TaskProgress,
    TaskStarted,
    envelope,
    event_adapter,
)

ID = "01890000-0000-7000-8000-000000000000"
NODE: dict[str, Any] = {"node_id": "PC-01", "timestamp": 1}
TASK: dict[str, Any] = {**NODE, "run_id": ID, "task_id": ID, "device_id": "A", "seq": 1, "attempt": 1}
PICTURE = {"step_id": "shot", "storage_path": "manual/PC-01/A/run/1.png", "sha256": "0" * 64, "size": 1}
BEAT = {
    "connected_devices_count": 0,
    "running_devices_count": 0,
    "queue_devices_count": 0,
    "vendor_ws_ok": True,
    "agent_version": "1",
    "outbox_depth": 0,
    "devices": [],
}
OF_TASKS: list[Payload] = [
    TaskStarted.model_validate({**TASK, "runtime_handle": "h", "workflow_id": "w", "timeoutMs": 1}),
    TaskProgress.model_validate({**TASK, "status": "running", "step": "LOGIN_FLOW", "step_id": "login"}),
    TaskFinished.model_validate({**TASK, "status": "succeeded", "timings": {"endedAt": 1}}),
    ArtifactStored.model_validate({**TASK, "artifact": PICTURE}),
]
OTHERS: list[Payload] = [
    NodeHeartbeat.model_validate({**NODE, **BEAT}),
    RunStarted.model_validate({**NODE, "run_id": ID, "target_devices_count": 1, "max_concurrency": 1}),
    RunFinished.model_validate({**NODE, "run_id": ID, "summary": {}}),
    CommandAck.model_validate({**NODE, "command_id": ID}),
]


@pytest.mark.parametrize("payload", OF_TASKS, ids=lambda payload: type(payload).__name__)
def test_whatever_speaks_of_a_task_names_node_run_device_status_and_error(payload: Payload) -> None:
    body = envelope(ID, payload)["payload"]
    assert {"node_id", "run_id", "device_id", "status", "error_message"} <= body.keys()


@pytest.mark.parametrize("payload", [*OF_TASKS, *OTHERS], ids=lambda payload: type(payload).__name__)
def test_an_event_is_read_as_it_was_written(payload: Payload) -> None:
    event = event_adapter.validate_json(json.dumps(envelope(ID, payload)))
    assert (event.event_id, event.payload) == (ID, payload)


def test_every_type_of_event_is_among_these() -> None:
    assert {envelope(ID, payload)["type"] for payload in [*OF_TASKS, *OTHERS]} == {kind.value for kind in EventType}
