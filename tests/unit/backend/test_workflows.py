import asyncio
from pathlib import Path

import yaml
from tests.support.backend import RECIPE, Rig, open_rig

YAML = {"Content-Type": "application/yaml; charset=utf-8"}


async def test_seed_recipes_are_there_at_first_start_and_never_come_back_over_a_change(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "data") as rig:
        listed = (await rig.http.get("/api/workflows")).json()["workflows"]
        assert [(item["workflow_id"], item["version"], item["steps_count"]) for item in listed] == [("tour", 1, 4)]
        await rig.http.put("/api/workflows/tour", json=RECIPE | {"name": "Mine"})
    async with open_rig(tmp_path / "data", clock=rig.clock) as rig:
        (item,) = (await rig.http.get("/api/workflows")).json()["workflows"]
        assert (item["version"], item["name"]) == (2, "Mine")


async def test_a_new_content_is_a_new_version_and_the_same_content_is_not(rig: Rig) -> None:
    same = await rig.http.put("/api/workflows/tour", json=RECIPE | {"version": 77})
    assert (same.status_code, same.json()["version"]) == (200, 1)
    changed = await rig.http.put("/api/workflows/tour", json=RECIPE | {"name": "Other"})
    assert (changed.status_code, changed.json()["version"]) == (201, 2)
    assert changed.json()["definition"]["version"] == 2
    back = await rig.http.put("/api/workflows/tour", json=RECIPE)
    assert (back.status_code, back.json()["version"]) == (201, 3)
    assert back.json()["content_hash"] == same.json()["content_hash"]
    assert back.json()["versions"] == [1, 2, 3]
    old = (await rig.http.get("/api/workflows/tour", params={"version": 2})).json()
    assert (old["definition"]["name"], old["versions"]) == ("Other", [1, 2, 3])


async def test_a_recipe_may_be_yaml(rig: Rig) -> None:
    document = RECIPE | {"workflow_id": "mine"}
    answer = await rig.http.put("/api/workflows/mine", content=yaml.safe_dump(document), headers=YAML)
    assert answer.status_code == 201, answer.text
    stored = answer.json()["definition"]
    assert [step["id"] for step in stored["steps"]] == ["wake", "launch", "shot", "upload"]
    again = await rig.http.put("/api/workflows/mine", json=document)
    assert again.status_code == 200


async def test_two_people_who_save_at_once_make_two_versions(rig: Rig) -> None:
    answers = await asyncio.gather(
        *(rig.http.put("/api/workflows/tour", json=RECIPE | {"name": f"by {who}"}) for who in range(10))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 12))


async def test_validation_tells_all_errors_and_stores_nothing(rig: Rig) -> None:
    broken = RECIPE | {"steps": [{"id": "a", "kind": "adb"}, {"id": "a", "kind": "nope"}]}
    answer = (await rig.http.post("/api/workflows/validate", json=broken)).json()
    assert answer["ok"] is False
    assert {"steps[0].command", "steps[1].kind"} <= {error["field"] for error in answer["errors"]}
    good = (await rig.http.post("/api/workflows/validate", content=yaml.safe_dump(RECIPE), headers=YAML)).json()
    assert (good["ok"], good["errors"]) == (True, [])
    assert len((await rig.http.get("/api/workflows")).json()["workflows"]) == 1


async def test_what_the_validator_points_out_is_told_when_saving(rig: Rig) -> None:
    steps = [{"id": "a", "kind": "adb", "command": "echo {{X|raw}}"}]
    answer = await rig.http.put("/api/workflows/raw", json={"workflow_id": "raw", "params": {"X": "1"}, "steps": steps})
    assert answer.status_code == 201, answer.text
    assert [warning["field"] for warning in answer.json()["warnings"]] == ["steps[0].command"]
