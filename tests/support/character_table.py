"""What becomes of phones of every character: the table that the rack's tests and docs/virtual-rack.md share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from muster.domain.failure import FailureReason as R
from muster.domain.task import TaskState as S
from muster.sim.states import PhoneState

End = tuple[S, R | None]
SUCCEEDED: End = (S.SUCCEEDED, None)
BORN_SKIPPED: End = (S.SKIPPED_OFFLINE, None)


@dataclass(frozen=True)
class Row:
    """Some phones of a kind, how their tasks may end, and why: `name` and `because` as the documentation tells it.

    `later`, `moves`, `is_quarantined`: what becomes of them when the node has seen them well. `entry`: of the profile.
    """

    name: str
    ends: Sequence[End]
    because: str
    phones: int = 1
    later: PhoneState | None = None
    moves: bool = False
    is_quarantined: bool = False
    entry: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        return self.ends == [SUCCEEDED]


def failed(reason: R) -> End:
    return S.FAILED, reason


def skipped(reason: R) -> End:
    return S.SKIPPED_OFFLINE, reason


def row(name: str, ends: End | list[End], because: str, **fields: Any) -> Row:
    """`fields`: of the row, and of the profile's entry."""
    of_row = {key: fields.pop(key) for key in ("phones", "later", "moves", "is_quarantined") if key in fields}
    entry = {"character": "healthy"} | fields
    return Row(name, ends if isinstance(ends, list) else [ends], because, entry=entry, **of_row)


def at(program: str) -> dict[str, Any]:
    return {"programs": [program]}


BAD: Sequence[Row] = (
    row("`unauthorized`", failed(R.NEEDS_USB_AUTHORIZATION),
        "only somebody at the phone can help: it fails at once (R2.2)",
        character="unauthorized", phones=2),
    row("`offline` from the start", BORN_SKIPPED, "never a sign of life: Offline, kept out of the queue (R8.1, R8.2)",
        character="offline"),
    row("offline just before its turn", [failed(R.ADB_OFFLINE), skipped(R.ADB_OFFLINE)],
        "still Online: it got its grace in vain (R8.3); skipped if its turn comes 30 s after its last sign (R8.2)",
        later=PhoneState.OFFLINE, phones=2),
    row("`missing` from the start", BORN_SKIPPED, "as `offline`: the casting tool knows it, adb has never had it",
        character="missing"),
    row("missing just before its turn", [failed(R.ADB_MISSING), skipped(R.ADB_MISSING)], "as offline before its turn",
        later=PhoneState.MISSING, phones=2),
    row("`no_adb`", failed(R.ADB_MISSING), "Online, for the casting tool reaches it; steps need adb (R2.2, R8.3)",
        character="no_adb", phones=2),
    row("`not_booted`", failed(R.DEVICE_UNRESPONSIVE), "it answers that it is not ready, all its grace long (R8.3)",
        character="not_booted"),
    row("`hanging` in its preflight", failed(R.DEVICE_UNRESPONSIVE),
        "adb goes on showing `device`; the probe has a limit of 15 s, then comes the grace (R2.2, spec/10)",
        character="hanging", at=at("getprop sys.boot_completed")),
    row("hung before its turn", failed(R.DEVICE_UNRESPONSIVE), "the same", later=PhoneState.HUNG),
    row("`hanging` in BOOTSTRAP", failed(R.DEVICE_UNRESPONSIVE),
        "its step runs out of time and the phone, asked then, does not answer: more than the phase tells (adr/0024)",
        character="hanging", at=at("settings*")),
    row("`hanging` in LOGIN_FLOW", failed(R.DEVICE_UNRESPONSIVE), "the same", character="hanging", at=at("monkey*")),
    row("`hanging` in a phase of one's own", failed(R.DEVICE_UNRESPONSIVE), "the same",
        character="hanging", at=at("am start*")),
    row("`hanging` at its picture", failed(R.DEVICE_UNRESPONSIVE),
        "the same; also at the next try, when a repair has taken its connection down",
        character="hanging", at=at("screencap")),
    row("`flapping`", [failed(R.ADB_OFFLINE), failed(R.ADB_MISSING), failed(R.LOGIN_FLOW_TIMEOUT), SUCCEEDED],
        "chance says which command is cut off, if any: one that may have run is not repeated (`adb_offline`); one that "
        "could not be sent gets one grace (`adb_missing` if it is away again after that); a `wait` waits on",
        character="flapping", up=3, down=1, phones=2),
    row("`crashing`: the phone", failed(R.ADB_OFFLINE), "the connection broke in a command that may have run (spec/10)",
        character="crashing", what="phone", at=at("monkey*")),
    row("`crashing`: adbd", failed(R.ADB_OFFLINE), "the same, although it is back a moment later",
        character="crashing", what="adbd", at=at("am start*")),
    row("`crashing`: the app", failed(R.LOGIN_FLOW_TIMEOUT), "adb is well; the page that is waited for never comes",
        character="crashing", what="app", at=at("input text*")),
    row("`full_disk`", failed(R.BOOTSTRAP_CRITICAL_FAILED), "the recipe's BOOTSTRAP writes a file (spec/02)",
        character="full_disk"),
    row("`slow`, twentyfold", failed(R.LOGIN_FLOW_TIMEOUT), "it answers its probe; a step takes longer than it may",
        character="slow", factor=20),
    row("battery at 9 %", failed(R.BATTERY_LOW), "below 15 %: not started (spec/07)", battery=9),
    row("52 °C", failed(R.OVERHEATED), "above 45 °C: not started (spec/07)", temperature=52),
    row("sign-in refused", failed(R.LOGIN_FLOW_TIMEOUT), "the home page never comes", sign_in={"always_fails": True}),
    row("sign-in not answered", failed(R.LOGIN_FLOW_TIMEOUT), "the same", sign_in={"never_answers": True}),
    row("a dialog in front", failed(R.ASSERTION_FAILED), "the recipe asserts which window has the focus",
        dialogs=["update"]),
    row("in quarantine", failed(R.QUARANTINED), "somebody put it there: no task until it is released (spec/07)",
        is_quarantined=True),
)  # fmt: skip
GOOD: Sequence[Row] = (
    row("`slow`, twofold", SUCCEEDED, "slow is not broken", character="slow", factor=2, phones=3),
    row("`unauthorized`, allowed in time", SUCCEEDED, "somebody presses Allow before the run",
        character="unauthorized", allowed_after=0.5),
    row("`offline`, recovered in time", SUCCEEDED, "well before the run", character="offline", recovers_after=0.5),
    row("`missing`, arrived in time", SUCCEEDED, "there before the run", character="missing", arrives_after=0.5),
    row("`not_booted`, booted in time", SUCCEEDED, "ready before the run", character="not_booted", boots_after=0.5),
    row("`hanging` for a second", SUCCEEDED, "it thaws within the step's limit, and the command runs then",
        character="hanging", at=at("am start*"), lasts=1, phones=2),
    row("`moving` before its turn", SUCCEEDED, "USB → Wi-Fi: the same phone under a new serial (R6.2)",
        moves=True, phones=2),
    row("asleep", SUCCEEDED, "the recipe wakes and unlocks it", asleep=True, phones=3),
    row("15 %, 45 °C", SUCCEEDED, "both are still allowed (spec/07)", battery=15, temperature=45, phones=2),
    row("a clock a day behind", SUCCEEDED, "deadlines are counted in the phone's own time (spec/10)",
        clock_offset=-86_400),
    row("a `ro.serialno` that others have too", SUCCEEDED, "the casting tool's `onlySerial` is the id (R6.1, R6.3)",
        serial_number="0123456789ABCDEF", phones=2),
)  # fmt: skip


def with_healthy(rows: Sequence[Row], total: int) -> list[Row]:
    """`rows`, and healthy phones for the rest of `total`."""
    rest = total - sum(row.phones for row in rows)
    assert rest > 0, "the rack is too small for the table"
    return [*rows, row("healthy", SUCCEEDED, "nothing is wrong with it", phones=rest)]


def document(rows: Sequence[Row]) -> str:
    """The table of docs/virtual-rack.md."""
    lines = [f"| {row.name} | {' or '.join(map(_told, row.ends))} | {row.because} |" for row in rows]
    return "\n".join(("| phone | its task ends | why |", "|---|---|---|", *lines)) + "\n"


def _told(end: End) -> str:
    """The reason alone for what failed, the state before it for what was skipped."""
    state, reason = end
    if state is S.FAILED and reason is not None:
        return f"`{reason.value}`"
    return f"`{state.value}`" + (f" (`{reason.value}`)" if reason else "")
