"""`muster doctor`: the backend as this PC reaches it, its clock, whether it takes the node's secret, and its nodes."""

import importlib.metadata
import time
from collections.abc import Sequence
from typing import Final

from muster.cli.failing import CommandFailed
from muster.cli.finding import Finding, counted
from muster.cli.node import clock_text
from muster.cli.parts import known_secret
from muster.client.http import ApiError, BackendError, BackendUnreachable, MusterClient
from muster.contracts.api import HealthAnswer, NodeView
from muster.domain.limits import CLOCK_SKEW_MS_MAX
from muster.runtime.settings import Settings

VERSIONS: Final = "upgrade nodes first, then the backend"


def backend_address(settings: Settings) -> str:
    """The one that this command line was told, else the agent's, else the default."""
    is_told = settings.origins["url"] != "default"
    return settings.url if is_told or settings.backend_url is None else settings.backend_url


async def check_backend(settings: Settings) -> Sequence[Finding]:
    """It is there, ready, of our version, and its clock is ours."""
    url = backend_address(settings)
    try:
        async with MusterClient(url, secret=settings.token) as client:
            asked = time.time()
            health = await client.healthz()
            answered = time.time()
            clock = _of_clock(health, asked, answered)
            await client.readyz()
    except BackendUnreachable as error:
        advice = "start it with `muster up` or `muster backend`, or name it with --url or MUSTER_URL"
        return [Finding("backend", "bad", str(error), advice)]
    except ApiError as error:
        if error.status == 404:
            return [Finding("backend", "bad", f"{url} is no Muster backend: {error}", "see --url, MUSTER_URL")]
        return [Finding("backend", "bad", f"{url}: {error}", "see to its database and object store")]
    return [_of_version(url, health), *clock]


def _of_version(url: str, health: HealthAnswer) -> Finding:
    own = importlib.metadata.version("muster")
    if health.version not in (None, own):
        return Finding("backend", "warning", f"{url} is ready, version {health.version}; here is {own}", VERSIONS)
    return Finding("backend", "ok", f"{url} is ready, version {health.version or 'not told'}")


def _of_clock(health: HealthAnswer, asked: float, answered: float) -> list[Finding]:
    if health.now is None:
        return []
    ahead_ms = round((asked + answered) * 500) - health.now
    # The answer may have been made at any moment in between.
    doubt_ms = round((answered - asked) * 500)
    if abs(ahead_ms) - doubt_ms > CLOCK_SKEW_MS_MAX:
        side = "ahead of" if ahead_ms > 0 else "behind"
        told = f"this PC is {abs(ahead_ms) / 1000:.0f} s {side} the backend: times in the console are off by that"
        return [Finding("clock", "warning", told, "switch on time synchronisation (NTP) on both; see which is wrong")]
    return [Finding("clock", "ok", f"within {max(1, round(abs(ahead_ms) / 1000))} s of the backend's")]


async def check_secret(settings: Settings) -> Sequence[Finding]:
    """The backend takes what this PC's agent would show. Tried with a batch of no events, which changes nothing."""
    try:
        secret = known_secret(settings)
    except CommandFailed as error:
        return [Finding("node secret", "bad", str(error), "the agent does not start like this")]
    if secret is None:
        told = "none is known here: an agent of this PC would be refused"
        return [
            Finding("node secret", "warning", told, "set NODE_AGENT_SHARED_SECRET to the backend's (DATA/secret there)")
        ]
    try:
        async with MusterClient(backend_address(settings), secret=secret) as client:
            await client.callback([])
    except BackendUnreachable:
        return []  # told by `backend`
    except ApiError as error:
        if error.status in (401, 403):
            advice = "set NODE_AGENT_SHARED_SECRET to the backend's (DATA/secret there), and start the agent again"
            return [Finding("node secret", "bad", "the backend refuses it", advice)]
        return [Finding("node secret", "warning", f"could not be tried: {error}", "see 'backend' here")]
    return [Finding("node secret", "ok", "the backend takes it")]


async def check_nodes(settings: Settings) -> Sequence[Finding]:
    """What the backend hears of the nodes."""
    try:
        async with MusterClient(backend_address(settings), secret=settings.token) as client:
            nodes = (await client.nodes()).nodes
    except BackendError:
        return []  # told by `backend`
    wanted = [node for node in nodes if settings.node_id in (None, node.node_id)]
    if not wanted:
        return [Finding("nodes", "warning", "none has reported yet", "start one with `muster up` or `muster agent`")]
    ill = [node for node in wanted if _illness(node)]
    found = [Finding("nodes", "warning", f"{node.node_id} {_illness(node)}", _advice(node)) for node in ill]
    well = [node.node_id for node in wanted if node not in ill]
    return [Finding("nodes", "ok", ", ".join(f"{name} online" for name in well)), *found] if well else found


def _illness(node: NodeView) -> str:
    """Why somebody should look at it; empty when nobody need."""
    told: list[str] = []
    if clock_text(node.clock_skew_ms) not in (None, "ok"):
        told.append(f"has a wrong clock ({clock_text(node.clock_skew_ms)})")
    reasons = [trouble.message for trouble in node.troubles]
    if node.last_error_message and node.last_error_message not in reasons:
        reasons.insert(0, node.last_error_message)
    if node.dead_letters:
        reasons.append(f"{counted(node.dead_letters, 'event')} refused for good")
    told += reasons
    return ", ".join([node.status, *told]) if told or node.status != "online" else ""


def _advice(node: NodeView) -> str:
    if node.status == "offline":
        return "look at that PC: is it on, is its agent running, does it reach the backend? `muster doctor` there"
    return "run `muster doctor` on that PC"
