"""What the parts of the agent need from one another and from outside, as narrow protocols.

Only the process (`agent/main.py`) and the adapters (`agent/rack.py`) know adb, the vendor tool and the HTTP client.
Everything else sees what is here, so that the whole agent can run against in-memory parts under a virtual clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from muster.agent.secrets import NO_SECRETS, NodeSecrets
from muster.contracts.commands import DeviceActionKind
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.limits import (
    DEVICE_ACTION_EXPIRY_SEC,
    DEVICE_GRACE_WAIT_MS,
    ONLINE_WINDOW_SEC,
    RESERVATION_MINUTES_DEFAULT,
)
from muster.domain.task import StepState, TaskState
from muster.recipe.model import Recipe

# ---- phones ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShellOutput:
    """A command that ended on the phone. `truncated`: output beyond `COMMAND_OUTPUT_BYTES_MAX` was thrown away."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


class PhoneError(Exception):
    """The pipe to the phone broke, or it refused. Not raised for an exit status ≠ 0.

    `fate_unknown`: the command was on its way and may have run, or may run yet; False: it never left this PC.
    """

    def __init__(self, reason: FailureReason, message: str, *, fate_unknown: bool = True) -> None:
        super().__init__(message)
        self.reason = reason
        self.fate_unknown = fate_unknown


class PhoneTooLate(PhoneError):
    """The fence held the command back, so nothing happened. `phone_sec`: what the phone's clock showed."""

    def __init__(self, phone_sec: int) -> None:
        super().__init__(
            FailureReason.DEVICE_UNRESPONSIVE,
            "the phone came to the command only after its deadline, and did nothing",
            fate_unknown=False,
        )
        self.phone_sec = phone_sec


@dataclass(frozen=True, slots=True)
class Fence:
    """A command must not start once the *phone's* clock is past `deadline_sec` (epoch seconds; spec/10).

    `timeout_sec`: the phone itself ends it after so long.
    """

    deadline_sec: int
    timeout_sec: int | None = None


class Phone(Protocol):
    """One attached phone. Every call is ended by cancelling its await, which leaves nothing behind on this PC."""

    @property
    def device_id(self) -> str:
        """The phone for ever (R6.1)."""
        ...

    @property
    def runtime_handle(self) -> str:
        """Where it is attached now (R6.2)."""
        ...

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        """Runs `command` in the phone's shell. Raises PhoneError, PhoneTooLate."""
        ...

    async def push(self, source: Path, remote: str) -> None:
        """A file of this PC to a path on the phone, whose folders it makes. Raises PhoneError, OSError."""
        ...

    async def pull(self, remote: str, target: Path, *, bytes_max: int) -> int:
        """A file of the phone to `target`, whole or not at all; its size. Raises PhoneError, OSError."""
        ...

    async def vendor(self, action: str, data: Mapping[str, str], *, timeout_sec: float) -> object:
        """An action of the vendor tool on this phone; what the tool answers, as JSON. It cannot be fenced: cut off, it
        may still happen. Raises PhoneError."""
        ...

    async def screenshot(self, *, left_sec: float) -> bytes:
        """A whole PNG or JPEG as the phone or the vendor tool gave it; not yet verified. Raises PhoneError.

        `left_sec`: the time that there is, to be shared out among whoever can take it; the caller ends it.
        """
        ...


NOT_ATTACHED: Final = "not attached"
"""`last_error_message` of a phone of which no more is known than that adb does not have it."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What the node knows of one phone. `last_seen` is monotonic seconds of the last sign of it, None if never."""

    device_id: str
    runtime_handle: str
    state: AttachState
    last_seen: float | None
    model: str | None = None
    battery: int | None = None
    temperature: float | None = None
    last_error_message: str | None = None
    # Why it must not start although it is there: `identity_conflict`.
    problem: FailureReason | None = None
    # Why it gets no task until it has proved itself or somebody releases it.
    quarantined: str | None = None
    # Who has it for how long: it gets no task meanwhile.
    reserved: str | None = None


class Phones(Protocol):
    """Who is there, joined from adb and the vendor tool (`agent/devices.py`)."""

    def find(self, device_id: str) -> Phone | None:
        """The phone if it is attached in a state in which it takes commands (`device`), else None."""
        ...

    def status(self, device_id: str) -> DeviceStatus | None:
        """What is known of it, whatever its state; None when this node has never seen it."""
        ...

    def all(self) -> Sequence[DeviceStatus]:
        """Every phone this node knows, in a stable order."""
        ...

    def resolve(self, device_id: str) -> str:
        """The one id under which the phone's tasks queue, for its id or an alias; an unknown name is its own."""
        ...


class DeviceCare(Protocol):
    """Who brings phones back that do not answer, and keeps out those that fail again and again (spec/07)."""

    async def began(self, device_id: str) -> None:
        """A task of the phone is being executed from its return on; it waits for a repair that is under way."""
        ...

    def left(self, device_id: str) -> None:
        """It is not any more: it ended, or waits for the phone without a slot."""
        ...

    async def ended(self, device_id: str, reason: FailureReason | None) -> None:
        """A task of the phone has its end. `reason` None: success. What follows for the phone is durable on return."""
        ...

    def unresponsive(self, device_id: str) -> None:
        """It should answer and does not: the ladder begins, unless it is under way. Returns at once."""
        ...

    async def answered(self, device_id: str) -> bool:
        """It answers whoever missed it: the ladder ends. False: a repair was under way; look at it once more."""
        ...

    async def waited_in_vain(self, device_id: str) -> None:
        """Whoever missed it goes on without it: from now on nothing is repaired under its hands."""
        ...


class NoDeviceCare:
    """`DeviceCare` of a node that can only wait."""

    async def began(self, device_id: str) -> None:
        """See `DeviceCare`."""

    def left(self, device_id: str) -> None:
        """See `DeviceCare`."""

    async def ended(self, device_id: str, reason: FailureReason | None) -> None:
        """See `DeviceCare`."""

    def unresponsive(self, device_id: str) -> None:
        """See `DeviceCare`."""

    async def answered(self, device_id: str) -> bool:
        """See `DeviceCare`."""
        return True

    async def waited_in_vain(self, device_id: str) -> None:
        """See `DeviceCare`."""


@dataclass(frozen=True, slots=True)
class ReserveTerms:
    """For whom a phone is reserved, why, and for how long."""

    owner: str
    reason: str | None = None
    minutes: int = RESERVATION_MINUTES_DEFAULT


@dataclass(frozen=True, slots=True)
class DeviceOrder:
    """What an operator asked of a phone. `taken_at_ms`: epoch ms of this PC's clock, when the node took note of it."""

    command_id: str
    device_id: str
    action: DeviceActionKind
    taken_at_ms: int
    # Of a reservation, and of nothing else.
    terms: ReserveTerms | None = None
    # In the operator's words.
    reason: str | None = None

    @property
    def is_felt(self) -> bool:
        """It is done to the phone itself, not merely noted of it."""
        return self.action in (DeviceActionKind.REBOOT, DeviceActionKind.RECONNECT)

    def is_late(self, now_ms: int) -> bool:
        """Whoever is at the phone by now did not ask for it. What this node merely notes of a phone is never late.

        A clock that was put back by more than that does not say how late it is.
        """
        return self.is_felt and abs(now_ms - self.taken_at_ms) > DEVICE_ACTION_EXPIRY_SEC * 1000


class DeviceActions(Protocol):
    """What an operator may have done to a phone outside any task. An order may come again after a restart."""

    def refusal(self, device_id: str, action: DeviceActionKind, terms: ReserveTerms | None = None) -> str | None:
        """Why it cannot be done, fit for an operator, else None. At once."""
        ...

    def begin(self, order: DeviceOrder) -> None:
        """What needs only this node's word holds from this call on; called once for each order that was not refused."""
        ...

    async def see_through(self, order: DeviceOrder) -> str | None:
        """Does the rest: on return it is done for good (None), or cannot be, and why. Called once, after `begin`."""
        ...


class NoDeviceActions:
    """`DeviceActions` of a node that has no means for any of them, and says so."""

    def refusal(self, device_id: str, action: DeviceActionKind, terms: ReserveTerms | None = None) -> str | None:
        """Always refused."""
        return f"this node cannot {action.value} {device_id}: it has no means for it"

    def begin(self, order: DeviceOrder) -> None:
        """Only of an order that another agent of this node left."""

    async def see_through(self, order: DeviceOrder) -> str | None:
        """Always refused."""
        return self.refusal(order.device_id, order.action)


# ---- tasks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A run as this node executes it: the pinned recipe and the run's own values."""

    run_id: str
    workflow_id: str
    recipe: Recipe
    video_id: str | None
    params: Mapping[str, str]
    timeout_overrides_ms: Mapping[str, int]
    global_timeout_ms: int
    max_attempts: int = 1


@dataclass(frozen=True, slots=True)
class Task:
    """One device's part of a run. `deadline` (monotonic seconds): the end of this attempt's time, which begins with its
    first slot; None: it has had none yet."""

    task_id: str
    device_id: str
    attempt: int
    run: RunPlan
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A picture that the store has confirmed (fields of `contracts.events.ArtifactRef`)."""

    step_id: str
    storage_path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How a task ended. `runtime_handle` is where the phone was attached when the task began."""

    status: TaskState
    failure_reason: FailureReason | None = None
    error_message: str | None = None
    failed_steps: tuple[str, ...] = ()
    runtime_handle: str | None = None
    artifact: StoredArtifact | None = None


@dataclass(frozen=True, slots=True)
class NotReady:
    """The phone should answer and does not, before the first step: a fault that may pass (R8.3)."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class StepProgress:
    """A step began, ended or was skipped: becomes a `task_progress` event."""

    step_id: str
    phase: str
    status: StepState
    step_index: int
    steps_total: int
    try_number: int = 1
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    wait_until_ms: int | None = None
    duration_ms: int | None = None
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error_message: str | None = None
    log_snippet: str | None = None


class Executor(Protocol):
    """Runs one task from preflight to its outcome. Never raises for what a phone, the vendor tool or a recipe does."""

    async def execute(self, task: Task, report: "Reporter") -> TaskOutcome | NotReady:
        """`NotReady`: nothing was done to the phone; execute it again when it answers.

        Cancelling the await ends the task's work on this PC at once and runs its teardown.
        """
        ...


class Reporter(Protocol):
    """Where the executor tells what happens, bound to one task; in the order in which it is told."""

    async def started(self, runtime_handle: str) -> None:
        """The task has its slot and its phone: `queued → running`, fact `task_started`; durable before it returns."""
        ...

    async def progress(self, step: StepProgress) -> None:
        """Telemetry `task_progress`: nobody waits for the disk."""
        ...


# ---- artifacts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpooledArtifact:
    """A picture safe on this node's disk, with its hash, before any upload begins."""

    task_id: str
    run_id: str
    device_id: str
    attempt: int
    step_id: str
    taken_at_ms: int
    path: Path
    sha256: str
    size: int


class UploadError(Exception):
    """The store could not be reached or refused; the picture stays in the spool and is sent again later."""


class SpoolError(Exception):
    """This node's disk, or the room that pictures have on it, is full: the picture is not kept."""


class Spool(Protocol):
    """Pictures on their way. One leaves the spool only when the store has confirmed it."""

    async def add(self, task: Task, step_id: str, png: bytes) -> SpooledArtifact:
        """Writes and syncs the picture, and records it, before it returns. Raises SpoolError."""
        ...

    async def upload(self, artifact: SpooledArtifact) -> StoredArtifact:
        """Uploads one picture now. Raises UploadError."""
        ...


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """What the node's own settings say about execution."""

    node_id: str
    upload_timeout_ms: int
    preflight_timeout_ms: int
    device_grace_wait_ms: int = DEVICE_GRACE_WAIT_MS
    online_window_sec: float = ONLINE_WINDOW_SEC
    allow_raw_shell: bool = False
    secrets: NodeSecrets = NO_SECRETS
    # The node's file library (`agent/file_library.py`); None: it has none.
    files_folder: Path | None = None
