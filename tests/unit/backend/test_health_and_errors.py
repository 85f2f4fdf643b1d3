import io
import shutil
from pathlib import Path

from fastapi import FastAPI
from tests.support.backend import Rig, open_rig

from muster.backend.api import artifacts, devices, health, nodes, runs, workflows
from muster.backend.api.problems import PROBLEMS
from muster.contracts.api import PROBLEM_TYPE_PREFIX

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


async def test_ready_means_that_database_and_store_were_reached(rig: Rig) -> None:
    assert (await rig.http.get("/readyz")).json() == {"status": "ready"}
    shutil.rmtree(rig.parts.settings.data_dir / "objects")
    answer = await rig.http.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert [error["field"] for error in answer.json()["errors"]] == ["objects"]
    assert (await rig.http.get("/healthz")).json()["status"] == "ok"


async def test_a_database_that_is_gone_is_a_503_that_is_worth_trying_again(rig: Rig) -> None:
    async with rig.parts.database.writing() as tx:
        await tx.exec_driver_sql("ALTER TABLE runs RENAME TO gone")
    answer = await rig.http.get("/readyz")
    assert [error["field"] for error in answer.json()["errors"]] == ["database"]
    assert (await rig.http.get("/api/runs")).status_code == 503


async def test_a_bug_tells_the_log_and_never_the_client(rig: Rig, log: io.StringIO) -> None:
    @rig.app.get("/api/broken")
    async def broken() -> None:
        raise RuntimeError("the password is swordfish")

    answer = await rig.http.get("/api/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:muster:problem:internal"
    assert "swordfish" not in answer.text
    assert "swordfish" in log.getvalue()


async def test_the_secret_is_in_no_log_line_and_in_no_repr(rig: Rig, log: io.StringIO) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.http.get("/api/nodes/pull", headers={"X-Node-Auth": "wrong"})
    assert rig.parts.settings.secret not in log.getvalue()
    assert rig.parts.settings.secret not in repr(rig.parts.settings)


async def test_open_api_tells_every_endpoint_with_a_summary_and_its_problems(rig: Rig) -> None:
    document = (await rig.http.get("/api/openapi.json")).json()
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert {"/api/runs", "/api/nodes/pull", "/api/nodes/callback", "/api/workflows/{workflow_id}"} <= set(
        document["paths"]
    )
    assert [path for path, _, operation in operations if not operation.get("summary")] == []
    described = document["paths"]["/api/runs"]["post"]["responses"]
    assert {"201", "200", "400", "409", "413", "422"} <= set(described)
    assert "no-matching-device" in described["422"]["description"]


def test_every_problem_is_in_the_documentation() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [slug for slug in PROBLEMS if f"`{slug}`" not in text] == []


def test_every_endpoint_is_in_the_documentation() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for path in _paths():
        assert f"`{path}`" in text, path


def _paths() -> list[str]:
    app = FastAPI()
    for module in (artifacts, devices, health, nodes, runs, workflows):
        app.include_router(module.router)
    return sorted(app.openapi()["paths"])


async def test_a_backend_that_is_meant_to_be_reached_goes_by_any_name(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "data", host="0.0.0.0") as rig:
        assert (await rig.http.get("/healthz", headers={"Host": "rack.example"})).status_code == 200
        assert PROBLEM_TYPE_PREFIX in (await rig.http.get("/api/nope", headers={"Host": "rack.example"})).text
