"""`muster run start | list | show | watch | stop`."""

import random
import re
import uuid
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.failing import CommandFailed
from muster.cli.node import trouble_lines
from muster.cli.output import as_document, clean, local_time, say, seconds, short_id, tell, tell_json, tell_table
from muster.cli.watching import counts_text, exit_status, watch_run
from muster.client.http import BackendUnreachable, MusterClient
from muster.contracts.api import CreateRun, RunCreated, RunDetail, RunListItem, RunStopped, Target, TaskView
from muster.domain import limits
from muster.domain.run import RunState, RunTrigger
from muster.runtime.backoff import full_jitter_delay_sec
from muster.runtime.clock import SystemClock

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Runs: start one, list them, look at one, watch it, stop it."
)

START_TRIES: Final = 4
RUNS_SEARCHED_MAX: Final = 2_000
ERRORS_SHOWN: Final = 20

# Field of the request → what was typed, and what it should look like.
_WRONG: Final = {
    "workflow_id": ("workflow", "letters, digits, dots, dashes; `muster workflow list` shows what there is"),
    "video_id": ("--video", "at most 128 characters, none of them a control character"),
    "params": ("--param", "a key is a letter or _, then letters, digits, _; at most 64 of them"),
    "timeout_overrides": ("--timeout", "a step id, a phase or a kind, and milliseconds"),
    "node_ids": ("--node", "`muster nodes` shows what there is"),
    "device_ids": ("--device", "`muster devices` shows what there is"),
}
RunArgument = Annotated[str, typer.Argument(help="Run id, or any beginning of it that is unique.")]


@app.command()
def start(
    workflow: Annotated[str, typer.Argument(help="Workflow to run, e.g. login_settings_screenshot_v1.")],
    video: Annotated[str | None, typer.Option("--video", help="YouTube video id.")] = None,
    param: Annotated[list[str] | None, typer.Option("--param", help="K=V; may be repeated.")] = None,
    node: Annotated[list[str] | None, typer.Option("--node", help="Only this node; may be repeated.")] = None,
    device: Annotated[list[str] | None, typer.Option("--device", help="Only this phone; may be repeated.")] = None,
    timeout: Annotated[
        list[str] | None, typer.Option("--timeout", help="KEY=MS for a step id, phase or kind; may be repeated.")
    ] = None,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", min=1, max=limits.MAX_ATTEMPTS_MAX, help="Tries for each phone.")
    ] = 1,
    watch: Annotated[bool, typer.Option("--watch", help="Show progress until the run has ended.")] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Starts a run on all phones, or on those of the given nodes and devices.

    With --watch the exit status is 0 when every phone succeeded, 1 when some did not, 2 when it could not be run.

    Example: muster run start login_settings_screenshot_v1 --video dQw4w9WgXcQ --node PC-01 --watch
    """
    request = _request(workflow, video, param or [], node, device, timeout or [], max_attempts)

    async def question(client: MusterClient) -> tuple[RunCreated, RunDetail | None]:
        created = await start_run(client, request)
        for warning in created.warnings:
            say(f"warning: {warning.field}: {warning.message}")
        return created, await watch_run(client, created.run_id) if watch else None

    created, detail = ask(url, question)
    if detail is not None:
        tell_run(detail, json=json)
        raise typer.Exit(exit_status(detail.status))
    if json:
        tell_json(as_document(created))
    else:
        tell(f"run {created.run_id} of {created.workflow_id} version {created.version}: {created.status}")
        say(f"watch it with: muster run watch {short_id(created.run_id)}")


@app.command("list")
def list_(
    status: Annotated[list[RunState] | None, typer.Option("--status", help="May be repeated.")] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Only runs of this workflow.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=limits.PAGE_SIZE_MAX)] = limits.PAGE_SIZE_DEFAULT,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Lists runs: failed and running first, then the newest.

    Example: muster run list --status failed --status running
    """
    page = ask(url, lambda client: client.runs(status=status or [], workflow_id=workflow, limit=limit))
    if json:
        tell_json(as_document(page))
        return
    tell_table(
        ["RUN", "WORKFLOW", "STATUS", "DONE", "OK", "CREATED"], [_row(run) for run in page.runs], flexible="WORKFLOW"
    )


@app.command()
def show(run: RunArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Shows a run and what became of each phone.

    Example: muster run show 01890a5d-ac96 --json
    """
    tell_run(ask(url, lambda client: find_run(client, run)), json=json)


@app.command()
def watch(run: RunArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Shows a run's progress until it has ended; exit status as for `run start --watch`."""

    async def question(client: MusterClient) -> RunDetail:
        return await watch_run(client, (await find_run(client, run)).run_id)

    detail = ask(url, question)
    tell_run(detail, json=json)
    raise typer.Exit(exit_status(detail.status))


@app.command()
def stop(run: RunArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Stops a run: phones whose turn has not come are cancelled, running ones are ended by their nodes.

    Example: muster run stop 01890a5d-ac96
    """

    async def question(client: MusterClient) -> RunStopped:
        return await client.stop_run((await find_run(client, run)).run_id)

    stopped = ask(url, question)
    if json:
        tell_json(as_document(stopped))
        return
    if stopped.status.is_terminal and not stopped.cancelled:
        tell(f"run {stopped.run_id} has ended already: {stopped.status}")
        return
    where = f"; {', '.join(stopped.nodes)} still at work, told to end" if stopped.nodes else ""
    tell(f"run {stopped.run_id} {stopped.status}: {stopped.cancelled} cancelled at once{where}")


async def start_run(client: MusterClient, request: CreateRun) -> RunCreated:
    """Starts one run and no second one, though an answer may be lost on the way: the same key goes with each try."""
    clock, rng, key = SystemClock(), random.Random(), str(uuid.uuid4())  # noqa: S311 - jitter, not a secret
    for failures in range(1, START_TRIES):
        try:
            return await client.create_run(request, key)
        except BackendUnreachable:
            await clock.sleep(full_jitter_delay_sec(failures, base_sec=0.2, cap_sec=1.0, rng=rng))
    return await client.create_run(request, key)


async def find_run(client: MusterClient, text: str) -> RunDetail:
    """The run whose id is `text` or begins with it. Raises CommandFailed when none or several do."""
    text = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f-]{1,36}", text):
        raise CommandFailed(f"{text!r} is no run id; `muster run list` shows them")
    if len(text) == 36:
        return await client.run(text)
    found = await _runs_beginning_with(client, text)
    if not found:
        raise CommandFailed(f"no run begins with {text!r}; `muster run list` shows them")
    if len(found) > 1:
        raise CommandFailed(f"{text!r} begins several runs: {', '.join(sorted(found)[:5])}; give more of the id")
    return await client.run(found[0])


async def _runs_beginning_with(client: MusterClient, text: str) -> list[str]:
    found: list[str] = []
    searched, page = 0, await client.runs(limit=limits.PAGE_SIZE_MAX)
    while True:
        found += [run.run_id for run in page.runs if run.run_id.startswith(text)]
        searched += len(page.runs)
        if not page.next_cursor or not page.runs or searched >= RUNS_SEARCHED_MAX:
            return found
        page = await client.runs(limit=limits.PAGE_SIZE_MAX, cursor=page.next_cursor)


def _request(
    workflow: str,
    video: str | None,
    params: list[str],
    nodes: list[str] | None,
    devices: list[str] | None,
    timeouts: list[str],
    max_attempts: int,
) -> CreateRun:
    try:
        return CreateRun(
            workflow_id=workflow,
            trigger=RunTrigger.MANUAL,
            video_id=video,
            params=_pairs(params, "--param"),
            timeout_overrides={key: _milliseconds(key, text) for key, text in _pairs(timeouts, "--timeout").items()},
            max_attempts=max_attempts,
            target=Target(node_ids=nodes or None, device_ids=devices or None),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, words = _WRONG.get(str(first["loc"][0]), (".".join(map(str, first["loc"])), first["msg"]))
        raise CommandFailed(f"{name} {str(first['input'])[:80]!r}: {words}") from error


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise CommandFailed(f"{option} {text!r} is not KEY=VALUE")
        if key in pairs:
            raise CommandFailed(f"{option} names {key} twice")
        pairs[key] = value
    return pairs


def _milliseconds(key: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise CommandFailed(f"--timeout {key}={text}: the limit is a whole number of milliseconds")
    return int(text)


def _row(run: RunListItem) -> list[object]:
    counts = run.counts
    done = f"{counts.finished}/{counts.total}"
    return [short_id(run.run_id), run.workflow_id, run.status, done, counts.succeeded, local_time(run.created_at)]


def tell_run(run: RunDetail, *, json: bool) -> None:
    """A run, its phones, and what is wrong with nodes that still have some at work."""
    if json:
        tell_json(as_document(run))
        return
    tell(f"run {run.run_id}  {run.workflow_id} version {run.version}  video {run.video_id or '-'}")
    duration = None if run.started_at is None or run.ended_at is None else run.ended_at - run.started_at
    times = f"created {local_time(run.created_at)}  took {seconds(duration) or '-'}"
    is_stopping = run.stop_requested_at is not None and not run.status.is_terminal
    status = f"{run.status}, stopping" if is_stopping else run.status.value
    tell(f"{status}: {counts_text(run.counts)}  {times}")
    tell_tasks(run.tasks)
    for node in run.nodes:
        if node.counts.finished < node.counts.total and node.status != "online":
            tell(f"{node.node_id} is {node.status}; `muster doctor --node` on that PC says more")
            for line in trouble_lines(node):
                tell(line)


def _status(task: TaskView) -> str:
    """An open task of a silent node, and an end that nobody has told yet, are marked."""
    return task.status + ("?" if task.unreachable or task.presumed else "")


def tell_tasks(tasks: list[TaskView]) -> None:
    """A line for each phone, then what went wrong in full."""
    tell_table(
        ["DEVICE", "NODE", "STATUS", "TRY", "TIME", "STEP", "REASON"],
        [
            [t.device_id, t.node_id, _status(t), t.attempt, seconds(t.duration_ms), t.step_id, t.failure_reason]
            for t in tasks
        ],
        flexible="REASON",
    )
    if any(task.unreachable for task in tasks):
        tell("?: their node does not answer now; the state is the last that it told")
    elif any(task.presumed for task in tasks):
        tell("?: presumed; their node's own result replaces it when it comes")
    for task in tasks:
        if task.requires_manual_accessibility:
            tell(f"{task.device_id}: switch its accessibility service on by hand")
    errors = [task for task in tasks if task.error_message]
    for task in errors[:ERRORS_SHOWN]:
        tell(f"{task.device_id}: {clean(task.error_message)}")
    if len(errors) > ERRORS_SHOWN:
        tell(f"… and {len(errors) - ERRORS_SHOWN} more; --json tells all")
