"""Bad input, as a table: input → status, problem type, field. Nothing is stored and the backend goes on."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.backend import NODE_HEADERS, RECIPE, SECRET, Rig

MEGABYTES_10 = b'{"workflow_id": "' + b"x" * 10_000_000 + b'"}'
JSON = {"Content-Type": "application/json"}
UUID = "01890000-0000-7000-8000-000000000000"
THREE_ERRORS = {
    **RECIPE,
    "steps": [
        {"id": "a", "kind": "adb", "command": "true", "timeoutMs": 700_000},
        {"id": "b", "kind": "adbb", "command": "true"},
        {"id": "c", "kind": "upload", "source": "nothing"},
    ],
}


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    path: str
    status: int
    slug: str
    fields: tuple[str, ...] = ()
    json: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def run(name: str, body: dict[str, Any], status: int, slug: str, *fields: str) -> Case:
    return Case(name, "POST", "/api/runs", status, slug, fields, json={"workflow_id": "tour"} | body)


def post(name: str, path: str, body: Any, slug: str, *fields: str) -> Case:
    return Case(name, "POST", path, 422, slug, fields, json=body, headers=NODE_HEADERS)


def get(name: str, path: str, status: int, slug: str, *fields: str) -> Case:
    return Case(name, "GET", path, status, slug, fields, headers=NODE_HEADERS)


CASES = [
    run("unknown workflow", {"workflow_id": "nope"}, 422, "unknown-workflow", "workflow_id"),
    run("unknown version", {"version": 9}, 422, "unknown-workflow", "version"),
    run("version far out of range", {"version": 2**70}, 422, "invalid-field", "version"),
    run("no workflow", {"workflow_id": None}, 422, "invalid-field", "workflow_id"),
    run("time limit too short", {"timeoutOverrides": {"launch": 1}}, 422, "invalid-field", "timeoutOverrides.launch"),
    run("time limit no number", {"timeoutOverrides": {"launch": "9"}}, 422, "invalid-field", "timeoutOverrides.launch"),
    run("time limit for nothing", {"timeoutOverrides": {"x": 9_000}}, 422, "invalid-field", "timeoutOverrides.x"),
    run("global limit too short", {"globalTimeoutMs": 59_999}, 422, "invalid-field", "globalTimeoutMs"),
    run("global limit too long", {"globalTimeoutMs": 1_800_001}, 422, "invalid-field", "globalTimeoutMs"),
    run("attempts", {"maxAttempts": 11}, 422, "invalid-field", "maxAttempts"),
    run("unknown device", {"target": {"device_ids": ["ghost"]}}, 422, "no-matching-device", "target"),
    run("unknown node", {"target": {"node_ids": ["PC-99"]}}, 422, "no-matching-device", "target"),
    run("empty target", {"target": {"device_ids": []}}, 422, "no-matching-device", "target"),
    run("bad node id", {"target": {"node_ids": ["../x"]}}, 422, "invalid-field", "target.node_ids[0]"),
    run("misspelt field", {"timeoutOverride": {}}, 422, "invalid-field", "timeoutOverride"),
    run("bad param key", {"params": {"1 A": "x"}}, 422, "invalid-field", "params.1 A"),
    run("param no text", {"params": {"A": 1}}, 422, "invalid-field", "params.A"),
    run("video id with a line feed", {"youtubeVideoId": "a\nb"}, 422, "invalid-field", "youtubeVideoId"),
    run(
        "two wrong fields are both told",
        {"maxAttempts": 0, "globalTimeoutMs": 1},
        422,
        "invalid-field",
        "globalTimeoutMs",
        "maxAttempts",
    ),
    Case("no JSON", "POST", "/api/runs", 400, "malformed-json", content=b"{", headers=JSON),
    Case("NaN", "POST", "/api/runs", 400, "malformed-json", content=b'{"metadata": {"a": NaN}}', headers=JSON),
    Case("half a character", "POST", "/api/runs", 400, "malformed-json", content=b'{"a": "\\ud800"}', headers=JSON),
    Case("deep nesting", "POST", "/api/runs", 400, "malformed-json", content=b"[" * 100_000, headers=JSON),
    Case("not UTF-8", "POST", "/api/runs", 400, "malformed-json", content=b'{"a": "\xff"}', headers=JSON),
    Case("an array", "POST", "/api/runs", 422, "invalid-field", ("body",), content=b"[]", headers=JSON),
    Case("no body", "POST", "/api/runs", 422, "invalid-field", ("body",), content=b"", headers=JSON),
    Case(
        "no content type",
        "POST",
        "/api/runs",
        415,
        "not-accepted",
        content=b'{"workflow_id": "tour"}',
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    Case(
        "key too long",
        "POST",
        "/api/runs",
        422,
        "invalid-field",
        ("Idempotency-Key",),
        json={"workflow_id": "tour"},
        headers={"Idempotency-Key": "k" * 201},
    ),
    *(
        Case(name, "POST", "/api/nodes/callback", 400, "malformed-json", content=raw, headers=NODE_HEADERS)
        for name, raw in (
            ("thousands of digits in a callback", b'{"event_id": ' + b"9" * 6_000 + b"}"),
            ("deep nesting in a callback", b"[" * 200_000),
            ("NaN in a callback", b'{"payload": NaN}'),
            ("not UTF-8 in a callback", b'{"type": "\xff"}'),
        )
    ),
    Case("10 MB", "POST", "/api/runs", 413, "body-too-large", content=MEGABYTES_10, headers=JSON),
    Case(
        "10 MB callback",
        "POST",
        "/api/nodes/callback",
        413,
        "body-too-large",
        content=MEGABYTES_10,
        headers=NODE_HEADERS,
    ),
    Case("10 MB recipe", "PUT", "/api/workflows/tour", 413, "body-too-large", content=MEGABYTES_10, headers=JSON),
    get("unknown run", "/api/runs/nope", 404, "unknown-run"),
    get("unknown run's steps", "/api/runs/nope/steps", 404, "unknown-run"),
    get("unknown run's events", "/api/runs/nope/events", 404, "unknown-run"),
    get("unknown node", "/api/nodes/PC-99", 404, "not-found"),
    get("unknown device", "/api/devices/ghost", 404, "not-found"),
    get("unknown workflow's page", "/api/workflows/nope", 404, "not-found"),
    get("unknown version's page", "/api/workflows/tour?version=7", 404, "not-found"),
    get("unknown picture", "/api/artifacts/nope", 404, "not-found"),
    get("unknown address", "/api/nope", 404, "not-found"),
    get("bad cursor", "/api/runs?cursor=xyz", 422, "invalid-field", "cursor"),
    get("cursor of another list", "/api/devices?cursor=WzEsMl0", 422, "invalid-field", "cursor"),
    get("bad window", "/api/runs?window=soon", 422, "invalid-field", "window"),
    get("bad status", "/api/runs?status=happy", 422, "invalid-field", "status[0]"),
    get("limit too large", "/api/runs?limit=201", 422, "invalid-field", "limit"),
    get("pull without a name", "/api/nodes/pull?instance_id=a", 422, "invalid-field", "node_id"),
    get("pull for ever", "/api/nodes/pull?node_id=PC-01&instance_id=a&wait_ms=60001", 422, "invalid-field", "wait_ms"),
    Case("wrong method", "DELETE", "/api/runs", 405, "method-not-allowed"),
    Case("no secret", "GET", "/api/nodes/pull?node_id=PC-01&instance_id=a", 401, "unauthorized"),
    Case(
        "wrong bearer",
        "GET",
        "/api/nodes/pull?node_id=PC-01&instance_id=a",
        401,
        "unauthorized",
        headers={"Authorization": f"Bearer {SECRET}x"},
    ),
    Case(
        "secret by another scheme",
        "GET",
        "/api/nodes/pull?node_id=PC-01&instance_id=a",
        401,
        "unauthorized",
        headers={"Authorization": f"Basic {SECRET}"},
    ),
    Case("no secret, callback", "POST", "/api/nodes/callback", 401, "unauthorized", json={"events": []}),
    Case("wrong secret, upload", "POST", "/api/nodes/uploads", 401, "unauthorized", headers={"X-Node-Auth": "x"}),
    post("events no list", "/api/nodes/callback", {"events": {}}, "invalid-field", "events"),
    post("too many events", "/api/nodes/callback", {"events": [{}] * 201}, "invalid-field", "events"),
    post("event without a type", "/api/nodes/callback", {"event_id": UUID, "payload": {}}, "invalid-field", "type"),
    post("event of no kind", "/api/nodes/callback", {"event_id": UUID, "type": "x"}, "invalid-field", "type"),
    post("an event that is a list", "/api/nodes/callback", [], "invalid-field", "body"),
    post(
        "upload for no task",
        "/api/nodes/uploads",
        {"task_id": UUID, "step_id": "shot", "taken_at": 1, "sha256": "0" * 64, "size": 1},
        "invalid-field",
        "task_id",
    ),
    post(
        "upload too large",
        "/api/nodes/uploads",
        {"task_id": UUID, "step_id": "shot", "taken_at": 1, "sha256": "0" * 64, "size": 2**40},
        "invalid-field",
        "size",
    ),
    Case("forged upload", "PUT", "/api/nodes/uploads/a.1.b", 403, "bad-upload-token", content=b"x"),
    Case(
        "recipe with three errors",
        "PUT",
        "/api/workflows/tour",
        422,
        "invalid-recipe",
        ("steps[0].timeoutMs", "steps[1].kind", "steps[2].source"),
        json=THREE_ERRORS,
    ),
    Case(
        "recipe under another id", "PUT", "/api/workflows/other", 422, "invalid-recipe", ("workflow_id",), json=RECIPE
    ),
    Case(
        "recipe as text",
        "PUT",
        "/api/workflows/tour",
        415,
        "not-accepted",
        content=b"x",
        headers={"Content-Type": "text/plain"},
    ),
    Case(
        "broken YAML",
        "PUT",
        "/api/workflows/tour",
        400,
        "malformed-json",
        content=b"a: [",
        headers={"Content-Type": "application/yaml"},
    ),
    Case(
        "page of another site",
        "POST",
        "/api/runs",
        403,
        "cross-site",
        json={"workflow_id": "tour"},
        headers={"Sec-Fetch-Site": "cross-site"},
    ),
    Case(
        "form of another site",
        "POST",
        "/api/runs",
        403,
        "cross-site",
        content=b"{}",
        headers={"Origin": "http://evil.example"},
    ),
    Case("sandboxed page", "PUT", "/api/workflows/tour", 403, "cross-site", json=RECIPE, headers={"Origin": "null"}),
    Case(
        "another port of this host",
        "POST",
        "/api/runs",
        403,
        "cross-site",
        content=b"{}",
        headers={"Origin": "http://127.0.0.1:1"},
    ),
    Case(
        "a name bound to us", "GET", "/api/runs", 421, "unknown-host", ("Host",), headers={"Host": "evil.example:8700"}
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_bad_input_is_answered_with_its_problem_and_field(rig: Rig, case: Case) -> None:
    await rig.heartbeat("PC-01", ["A"])
    content = json.dumps(case.json).encode() if case.json is not None else case.content
    headers = (JSON if case.json is not None else {}) | case.headers
    answer = await rig.http.request(case.method, case.path, content=content, headers=headers)
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:muster:problem:{case.slug}"
    assert problem["status"] == case.status
    assert tuple(error["field"] for error in problem["errors"]) == case.fields
    assert all(error["message"] for error in problem["errors"])
    assert ("www-authenticate" in answer.headers) == (case.status == 401)
    assert (await rig.http.get("/api/runs")).json()["runs"] == []
    assert (await rig.http.get("/api/workflows")).json()["workflows"][0]["version"] == 1


async def test_a_body_that_does_not_tell_its_length_is_cut_off_too(rig: Rig) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100_000

    answer = await rig.http.post("/api/runs", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:muster:problem:body-too-large"


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://127.0.0.1:8700"}, {}])
async def test_our_own_pages_and_programs_may_change_things(rig: Rig, headers: dict[str, str]) -> None:
    answer = await rig.http.post("/api/runs", json={"workflow_id": "nope"}, headers=headers)
    assert answer.json()["type"] == "urn:muster:problem:unknown-workflow"


@pytest.mark.parametrize("host", ["localhost:8700", "127.0.0.1", "[::1]:8700"])
async def test_loopback_is_known_by_all_its_names(rig: Rig, host: str) -> None:
    assert (await rig.http.get("/healthz", headers={"Host": host})).status_code == 200


async def test_both_forms_of_the_secret_are_taken(rig: Rig) -> None:
    for headers in ({"Authorization": f"bearer {SECRET}"}, {"X-Node-Auth": SECRET}):
        answer = await rig.http.post("/api/nodes/callback", json={"events": []}, headers=headers)
        assert answer.json() == {"ok": True, "results": []}


async def test_what_is_wrong_with_a_field_is_said_in_words(rig: Rig) -> None:
    answer = await rig.http.post("/api/runs", json={"workflow": "tour"})
    assert {error["field"]: error["message"] for error in answer.json()["errors"]} == {
        "workflow_id": "is missing",
        "workflow": "is not known here",
    }
    await rig.heartbeat("PC-01", ["A"])
    answer = await rig.http.post("/api/devices/A/actions", json={"action": "reserve"})
    assert answer.json()["errors"] == [{"field": "owner", "message": "say for whom the phone is reserved"}]
