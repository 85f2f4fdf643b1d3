import base64
import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.scripted_http import answer, scripted_peer

from muster.client.http import ApiError, BackendUnreachable, MusterClient
from muster.client.wire import ANSWER_BYTES_MAX
from muster.contracts.api import CreateRun, Target, UploadRequest, UploadTicket
from muster.domain.run import RunState

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
CREATED = {"run_id": RUN_ID, "workflow_id": "w", "version": 1, "status": "queued", "created_at": 1}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


async def test_a_run_is_created_with_the_documents_own_field_names() -> None:
    async with scripted_peer([answer(201, body(CREATED))]) as peer, MusterClient(peer.url) as client:
        created = await client.create_run(
            CreateRun(workflow_id="w", video_id="v", max_attempts=2, target=Target(node_ids=["PC-01"])), "key-1"
        )
    asked = peer.asked[0]
    assert (created.run_id, created.status) == (RUN_ID, RunState.QUEUED)
    assert (asked.method, asked.target, asked.headers["idempotency-key"]) == ("POST", "/api/runs", "key-1")
    sent = json.loads(asked.body)
    assert (sent["youtubeVideoId"], sent["maxAttempts"], sent["target"]) == ("v", 2, {"node_ids": ["PC-01"]})


async def test_filters_that_are_not_given_are_not_sent() -> None:
    page = answer(200, body({"runs": [], "counts": {}}))
    async with scripted_peer([page]) as peer, MusterClient(peer.url + "/") as client:
        await client.runs(status=[RunState.FAILED, RunState.RUNNING], limit=5)
    assert peer.asked[0].target == "/api/runs?status=failed&status=running&limit=5"


async def test_what_a_person_typed_cannot_reach_another_endpoint() -> None:
    async with scripted_peer([answer(404)]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(ApiError):
            await client.run("../nodes?x=1")
    assert peer.asked[0].target == "/api/runs/..%2Fnodes%3Fx%3D1"


async def test_a_problem_document_is_told_with_its_fields() -> None:
    problem = {
        "type": "urn:muster:problem:invalid-input",
        "title": "Invalid input",
        "status": 422,
        "errors": [{"field": "target", "message": "matches no known device"}],
    }
    refused = answer(422, body(problem), content_type="application/problem+json")
    async with scripted_peer([refused]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(ApiError, match="Invalid input \\(target: matches no known device\\)") as caught:
            await client.create_run(CreateRun(workflow_id="w"))
    assert (caught.value.status, caught.value.problem.errors[0].field) == (422, "target")


async def test_a_proxys_error_page_becomes_a_problem_of_one_line() -> None:
    page = answer(502, b"<html>\n<h1>Bad\nGateway</h1>", content_type="text/html")
    async with scripted_peer([page]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(ApiError) as caught:
            await client.nodes()
    assert (caught.value.status, caught.value.problem.type) == (502, "about:blank")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        b"rubbish\r\n\r\n",
        b"",
        answer(200, b"not json"),
        answer(200, b'{"nodes": 7}'),
        answer(200, b"[]"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        answer(200, b"", f"X-Long: {'x' * 200_000}"),
    ],
    ids=["rubbish", "nothing", "no-json", "wrong-type", "wrong-shape", "cut-off", "endless-header"],
)
async def test_an_answer_that_is_not_musters_is_no_answer(reply: bytes) -> None:
    async with scripted_peer([reply]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(BackendUnreachable):
            await client.nodes()


async def test_an_answer_that_announces_too_much_is_refused_unread() -> None:
    huge = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"
    async with scripted_peer([huge], stays_open=True) as peer, MusterClient(peer.url) as client:
        with pytest.raises(BackendUnreachable, match="more than"):
            await client.nodes()


async def test_an_answer_that_grows_too_large_is_cut_off() -> None:
    huge = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (ANSWER_BYTES_MAX + 1)
    async with scripted_peer([huge], stays_open=True) as peer, MusterClient(peer.url) as client:
        with pytest.raises(BackendUnreachable, match="more than"):
            await client.nodes()


async def test_a_huge_error_page_is_still_told_by_its_status() -> None:
    huge = b"HTTP/1.1 500 X\r\nConnection: close\r\n\r\n" + b"x" * 1_000_000
    async with scripted_peer([huge]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(ApiError) as caught:
            await client.nodes()
    assert caught.value.status == 500


async def test_nobody_listening_is_backend_unreachable_and_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        port = taken.getsockname()[1]
        async with MusterClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(BackendUnreachable, match=f"127.0.0.1:{port}"):
                await client.healthz()


async def test_an_address_with_a_password_leaves_the_usual_header_to_its_proxy() -> None:
    async with (
        scripted_peer([answer(200, b'{"nodes": []}')]) as peer,
        MusterClient(peer.url.replace("//", "//muster:hidden@"), secret="the-nodes-secret") as client,
    ):
        await client.nodes()
    headers = peer.asked[0].headers
    assert headers["x-node-auth"] == "the-nodes-secret"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"muster:hidden"


async def test_no_error_holds_the_password_of_an_address() -> None:
    async def put(client: MusterClient) -> None:
        ticket = UploadTicket(artifact_id=RUN_ID, key="k", url="/put", expires_at=1)
        await client.put_object(ticket, Path(__file__), timeout_sec=0.2)

    async def follow(client: MusterClient) -> None:
        async for _ in client.events(RUN_ID):
            pass

    async def list_nodes(client: MusterClient) -> None:
        await client.nodes()

    trickle = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"
    for ask, said in ((put, trickle), (follow, answer(200)), (list_nodes, b"nonsense\r\n\r\n")):
        async with (
            scripted_peer([said], stays_open=said == trickle) as peer,
            MusterClient(peer.url.replace("//", "//muster:hidden@")) as client,
        ):
            with pytest.raises(BackendUnreachable, match=f"127.0.0.1:{peer.port}") as caught:
                await ask(client)
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("text", ["ftp://muster:hidden@pc-1", "http://muster:hid/den@pc-1", "muster:hidden@pc-1"])
def test_an_address_that_cannot_be_used_is_told_without_its_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a backend's address: .*\*\*\*@pc-1") as caught:
        MusterClient(text)
    assert "hid" not in str(caught.value)


def test_a_password_that_a_text_would_show_is_refused_and_told_how_to_write() -> None:
    with pytest.raises(ValueError, match=r"'http://\*\*\*@pc-1' .* not percent-encoded") as caught:
        MusterClient('http://muster:hid"den@pc-1')
    assert "hid" not in str(caught.value)


async def test_a_peer_that_trickles_its_answer_is_given_up() -> None:
    trickle = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"
    async with scripted_peer([trickle], stays_open=True) as peer, MusterClient(peer.url) as client:
        ticket = UploadTicket(artifact_id=RUN_ID, key="k", url="/put", expires_at=1)
        with pytest.raises(BackendUnreachable, match="in"):
            await client.put_object(ticket, Path(__file__), timeout_sec=0.2)


async def test_a_proxy_of_the_environment_is_not_asked_for_a_backend_on_this_pc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with scripted_peer([answer(200, body({"nodes": []}))]) as peer, MusterClient(peer.url) as client:
        assert (await client.nodes()).nodes == []


async def test_the_poll_names_the_node_its_instance_and_that_it_leaves() -> None:
    async with scripted_peer([answer(200, b'{"commands": []}')]) as peer, MusterClient(peer.url, secret="s3") as client:
        await client.pull("PC-01", "i-1", 10, leaving=True)
    asked = peer.asked[0]
    assert asked.target == "/api/nodes/pull?node_id=PC-01&instance_id=i-1&wait_ms=10&leaving=true"
    assert asked.headers["authorization"] == "Bearer s3"


async def test_a_batch_of_events_gets_a_verdict_for_each() -> None:
    verdicts = {"ok": False, "results": [{"event_id": "a", "ok": True}, {"event_id": "b", "ok": False, "status": 422}]}
    async with scripted_peer([answer(200, body(verdicts))]) as peer, MusterClient(peer.url) as client:
        told = await client.callback([{"event_id": "a"}, {"event_id": "b"}])
    assert json.loads(peer.asked[0].body) == {"events": [{"event_id": "a"}, {"event_id": "b"}]}
    assert [verdict.ok for verdict in told.results or []] == [True, False]


async def test_a_picture_is_put_where_the_ticket_says_with_its_length(tmp_path: Path) -> None:
    picture = tmp_path / "shot.png"
    picture.write_bytes(b"png" * 200_000)
    ticket = {"artifact_id": RUN_ID, "key": "v/k.png", "url": "/api/nodes/uploads/token", "expires_at": 1}
    replies = [answer(200, body(ticket)), answer(200, b"{}")]
    async with scripted_peer(replies) as peer, MusterClient(peer.url, secret="s3") as client:
        request = UploadRequest(
            task_id=RUN_ID, step_id="shot", taken_at=1, sha256=hashlib.sha256(b"").hexdigest(), size=600_000
        )
        await client.put_object(await client.request_upload(request), picture)
    put = peer.asked[1]
    assert (put.method, put.target, put.body) == ("PUT", "/api/nodes/uploads/token", picture.read_bytes())
    assert put.headers["content-length"] == "600000"
    assert "transfer-encoding" not in put.headers


async def test_the_secret_never_goes_to_an_object_store_elsewhere(tmp_path: Path) -> None:
    picture = tmp_path / "shot.png"
    picture.write_bytes(b"png")
    async with (
        scripted_peer([answer(200)]) as store,
        scripted_peer([answer(200)]) as backend,
        MusterClient(backend.url, secret="s3") as client,
    ):
        ticket = UploadTicket(
            artifact_id=RUN_ID, key="k", url=f"{store.url}/b/k?sig=1", headers={"x-amz-a": "1"}, expires_at=1
        )
        await client.put_object(ticket, picture)
    assert backend.asked == []
    assert "authorization" not in store.asked[0].headers
    assert store.asked[0].headers["x-amz-a"] == "1"


async def test_an_object_stores_refusal_is_told_with_its_status(tmp_path: Path) -> None:
    picture = tmp_path / "shot.png"
    picture.write_bytes(b"png")
    refusal = answer(403, b"<Error><Code>Expired</Code></Error>", content_type="application/xml")
    async with scripted_peer([refusal]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(ApiError, match="Expired") as caught:
            await client.put_object(UploadTicket(artifact_id=RUN_ID, key="k", url="/x", expires_at=1), picture)
    assert caught.value.status == 403


async def test_a_picture_is_read_through_the_redirect_to_its_store() -> None:
    async with scripted_peer([answer(200, b"PNG")]) as store:
        redirect = answer(307, b"", f"Location: {store.url}/bucket/k")
        async with scripted_peer([redirect]) as backend, MusterClient(backend.url, secret="s3") as client:
            assert await client.artifact(RUN_ID) == b"PNG"
    assert "authorization" not in store.asked[0].headers


async def test_the_stream_is_resumed_from_the_last_event_id_and_ends_with_its_connection() -> None:
    stream = answer(200, b"id: 5\nevent: delta\ndata: {}\n\n: beat\n\n", content_type="text/event-stream")
    async with scripted_peer([stream]) as peer, MusterClient(peer.url) as client:
        events = [event async for event in client.events(RUN_ID, "4")]
    assert peer.asked[0].headers["last-event-id"] == "4"
    assert [(event.event, event.id) for event in events] == [("delta", "5")]


async def test_a_stream_that_is_no_event_stream_is_refused() -> None:
    async with scripted_peer([answer(200, b"{}")]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(BackendUnreachable, match="is it a Muster backend"):
            _ = [event async for event in client.events(RUN_ID)]


@pytest.mark.parametrize("address", ["", "127.0.0.1:8700", "ftp://x", "http://", "http://[", "http://x:99999999"])
def test_a_bad_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(ValueError, match="not a backend's address"):
        MusterClient(address)


class LostAtOnce(httpx2.AsyncBaseTransport):
    """As anyio is when a backend dies in the instant in which a connection to it is made."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        transport: Any = None
        return httpx2.Response(200, content=transport.getpeername())


async def test_a_backend_that_dies_in_the_instant_of_connecting_is_one_that_cannot_be_reached() -> None:
    async with MusterClient("http://127.0.0.1:1", transport=LostAtOnce()) as client:
        with pytest.raises(BackendUnreachable, match="closed the connection at once"):
            await client.runs()
