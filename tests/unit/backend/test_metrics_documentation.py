"""docs/operations.md speaks of metrics that exist, in configuration that can be read."""

import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry
from tests.support.backend import Rig

from muster.agent.journal import JournalFigures, OutboxDepth, Waiting
from muster.agent.observe.figures import Figures, FiguresCollector
from muster.agent.observe.instruments import Instruments
from muster.domain.trouble import Trouble

TEXT = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
SUFFIXES = re.compile(r"_(bucket|count|sum)$")


def of_the_agent() -> set[str]:
    registry, state = CollectorRegistry(), FiguresCollector()
    Instruments(registry)
    registry.register(state)
    journal = JournalFigures(OutboxDepth(0, 0), Waiting(None, None), 0, 0, 0, 0, 0, 0, 0, {})
    state.figures = Figures(
        node_id="PC-01", version="0", slots=1, slots_used=0, queued_phones=0, phones=(), adb_ok=True, adb_restarts=0,
        vendor_ok=True, vendor_returns=0, pulled_at_sec=0.0, clock_skew_sec=0.0, disk_free_bytes=0, asyncio_tasks=0,
        threads=0, now_ms=0, journal=journal, findings=(),
    )  # fmt: skip
    families = list(registry.collect())
    # One with labels has no sample before it is used.
    return {family.name for family in families} | {sample.name for family in families for sample in family.samples}


async def test_every_metric_in_the_documentation_is_told(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.http.get("/api/runs")
    lines = (await rig.http.get("/metrics")).text.splitlines()
    told = of_the_agent() | {re.split(r"[ {]", line)[0] for line in lines if not line.startswith("#")}
    told = {SUFFIXES.sub("", name) for name in told}
    named = {
        SUFFIXES.sub("", name) for name in re.findall(r"\b(?:muster_(?:agent|backend)|process)_[a-z_]+[a-z]", TEXT)
    }
    assert named - told == set()
    assert len(named) > 20


def test_every_reason_of_the_health_page_is_in_the_documentation() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (200|503) \|", TEXT, re.MULTILINE))
    assert rows == {trouble.value: "503" if trouble.stops_work else "200" for trouble in Trouble}


def test_the_examples_for_prometheus_are_yaml_with_three_alarms() -> None:
    documents = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
    (scrape,) = [each for each in documents if "scrape_configs" in each]
    (alarms,) = [each for each in documents if "groups" in each]
    assert {job["job_name"] for job in scrape["scrape_configs"]} == {"muster-backend", "muster-agent"}
    assert [rule["alert"] for rule in alarms["groups"][0]["rules"]] == [
        "NodeSilent", "NodeCannotWork", "ResultsDoNotArrive",
    ]  # fmt: skip
