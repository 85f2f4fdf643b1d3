"""The children of `muster up` and `muster demo`: which command each is, and the line by which it says it is ready."""

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muster.agent.locks import FileLock
from muster.cli.failing import CommandFailed
from muster.cli.family import ChildPlan
from muster.runtime.private_folder import make_private, write_private
from muster.runtime.settings import Settings, shared_secret

SECRET_VARIABLE = "NODE_AGENT_SHARED_SECRET"  # noqa: S105 - a name
VENDOR_VARIABLE = "VENDOR_WS_URL"
SECRET_FILE = "secret"  # noqa: S105 - a name
_BACKEND_READY = re.compile(r"^muster backend ready on (?P<url>http://\S+)$")
_AGENT_READY = re.compile(r"^muster agent \S+ ready$")
_RACK_READY = re.compile(r"^muster sim ready: \d+ devices, adb server (?P<adb>[^\s,]+)(?P<places>.*)$")


def backend_plan(settings: Settings, secret: str, *, port: int) -> ChildPlan:
    """`muster backend` on this PC."""
    arguments = ["backend", "--host", settings.host, "--port", str(port), "--data", str(settings.data)]
    return ChildPlan("backend", arguments, _BACKEND_READY, {SECRET_VARIABLE: secret})


def agent_plan(
    settings: Settings, secret: str, *, node_id: str, backend_url: str, adb_server: str, vendor_url: str | None
) -> ChildPlan:
    """`muster agent` for `backend_url`."""
    arguments = ["agent", "--backend", backend_url, "--node-id", node_id, "--data", str(settings.data)]
    arguments += ["--adb-server", adb_server, "--concurrency", str(settings.concurrency)]
    # Not an option: its password would be in the list of processes.
    environment = {SECRET_VARIABLE: secret, VENDOR_VARIABLE: vendor_url or "none"}
    return ChildPlan("agent", arguments, _AGENT_READY, environment)


def rack_plan(*, devices: int, seed: int, profile: Path | None, data: Path) -> ChildPlan:
    """`muster sim` on free ports."""
    arguments = ["sim", "--devices", str(devices), "--seed", str(seed), "--data", str(data)]
    arguments += ["--adb-server", "127.0.0.1:0", "--vendor-port", "0", "--control-port", "0"]
    arguments += ["--profile", str(profile)] if profile else []
    return ChildPlan("sim", arguments, _RACK_READY)


def place_of(service: str, ready: re.Match[str]) -> str | None:
    """Where the rack's `vendor` or `control` listens, from its ready line."""
    found = re.search(rf", {service} ([^\s,]+)", ready["places"])
    return found[1] if found else None


def own_secret(settings: Settings) -> str:
    """The secret in force, else one of this data folder's own, made at the first start and kept with mode 0600."""
    if settings.secret is not None:
        return settings.secret
    write_private(make_private(settings.data) / SECRET_FILE, secrets.token_hex(16) + "\n")
    secret = known_secret(settings)
    assert secret is not None, "it has just been written"
    return secret


def known_secret(settings: Settings) -> str | None:
    """The secret in force, else the one that this data folder keeps, else None. Raises CommandFailed."""
    path = settings.data / SECRET_FILE
    if settings.secret is not None or not path.exists():
        return settings.secret
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise CommandFailed(f"others can read {path}; run `chmod 600 {path}`")
    try:
        return shared_secret(path.read_text(encoding="utf-8").strip())
    except ValueError:
        # Not "from" it: a text that is no UTF-8 is told with a piece of it.
        raise CommandFailed(f"{path} does not hold a secret; remove it and start again") from None


@contextmanager
def held_folder(folder: Path, lock: str) -> Iterator[None]:
    """Holds the data folder for one process of a kind. Raises CommandFailed when another has it."""
    file = FileLock(make_private(folder) / lock)
    if not file.acquire(f"process {os.getpid()}\n"):
        raise CommandFailed(f"{folder} is in use by {file.owner()}; stop that one, or give another folder with --data")
    try:
        yield
    finally:
        file.release()


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
