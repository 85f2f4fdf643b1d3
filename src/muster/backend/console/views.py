"""What the templates show, worked out from the API's own bodies. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from muster.contracts.api import NodeCondition, NodePart, NodeView, RunDetail, TaskCounts, TaskView
from muster.domain.run import RunState
from muster.domain.task import TaskState

# Above these many phones a tile is smaller; at last a square with a glyph, its text there for screen readers alone.
CARDS_MAX: Final = 40
MEDIUM_MAX: Final = 200
NODES_SHOWN_MAX: Final = 6
ILL_NODES_MAX: Final = 50
FINISHED: Final = (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED_OFFLINE, TaskState.CANCELLED)
# In the order in which a phone passes through them; the legend, the chips and the bars all keep it.
TASK_ORDER: Final = (TaskState.QUEUED, TaskState.RUNNING, TaskState.WAITING, *FINISHED)
RUN_ORDER: Final = (
    RunState.FAILED,
    RunState.COMPLETED_WITH_ERRORS,
    RunState.RUNNING,
    RunState.QUEUED,
    RunState.COMPLETED,
    RunState.STOPPED,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A phone in the heatmap."""

    task: TaskView
    hidden: bool

    @property
    def step(self) -> str:
        """`5/20 login`: where it is, or where it stopped; before its first step, why it came to none."""
        if self.task.step_index is None:
            reason = None if self.task.status is TaskState.CANCELLED else self.task.failure_reason
            return reason or self.task.step_id or ""
        total = f"/{self.task.steps_total}" if self.task.steps_total else ""
        return f"{self.task.step_index + 1}{total} {self.task.step_id}"


@dataclass(frozen=True, slots=True)
class NodeBlock:
    """A node's phones, in places that never change while the run lasts."""

    node_id: str
    tiles: list[Tile]
    counts: TaskCounts
    part: NodePart | None = None

    @property
    def ill(self) -> NodeCondition | None:
        """Its condition, if somebody should look at it; of no concern to a run whose part there is over."""
        is_open = self.counts.finished < self.counts.total
        return self.part if self.part and is_open and is_ill(self.part) else None


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar, in units of tasks."""

    state: TaskState
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter with its count; `href` turns it on or off and keeps the rest of the address."""

    state: str
    count: int
    on: bool
    href: str


def count_tasks(tasks: Iterable[TaskView]) -> TaskCounts:
    """Tasks by state."""
    states = [task.status for task in tasks]
    return TaskCounts(total=len(states), **{state.value: states.count(state) for state in TaskState})


def count_of(counts: TaskCounts, state: TaskState) -> int:
    """The count of one state."""
    value: int = getattr(counts, state.value)
    return value


def tile_size(phones: int) -> str:
    """How large the tiles of so many phones are: the wall should fit on a screen."""
    if phones <= CARDS_MAX:
        return "cards"
    return "medium" if phones <= MEDIUM_MAX else "compact"


def segments(counts: TaskCounts) -> list[Segment]:
    """A proportional bar: finished states first, then what is under way; the rest of the bar is what is queued."""
    parts, start = [], 0
    for state in (*FINISHED, TaskState.RUNNING, TaskState.WAITING):
        length = count_of(counts, state)
        if length:
            parts.append(Segment(state, start, length))
        start += length
    return parts


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key by which `SIM-9` comes before `SIM-10`."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def node_blocks(detail: RunDetail, *, statuses: frozenset[str], search: str) -> list[NodeBlock]:
    """The heatmap: nodes and phones by name, so that a phone is in the same place in every run over the same rack."""
    by_node: dict[str, list[TaskView]] = {}
    for task in detail.tasks:
        by_node.setdefault(task.node_id, []).append(task)
    parts = {part.node_id: part for part in detail.nodes}
    return [
        NodeBlock(
            node_id,
            [Tile(task, not matches(task, statuses, search)) for task in _in_place(tasks)],
            count_tasks(tasks),
            parts.get(node_id),
        )
        for node_id, tasks in sorted(by_node.items(), key=lambda item: natural(item[0]))
    ]


def is_ill(node: NodeCondition) -> bool:
    """Whether somebody should look at it."""
    return node.status != "online" or bool(node.troubles)


def shown_nodes(nodes: Iterable[NodeView]) -> tuple[list[NodeView], int]:
    """Those that somebody should look at, then the others while there is room; and how many others there are more."""
    by_name = sorted(nodes, key=lambda node: natural(node.node_id))
    ill = [node for node in by_name if is_ill(node)][:ILL_NODES_MAX]
    well = [node for node in by_name if not is_ill(node)]
    shown = well[: max(0, NODES_SHOWN_MAX - len(ill))]
    return ill + shown, len(by_name) - len(ill) - len(shown)


def _in_place(tasks: list[TaskView]) -> list[TaskView]:
    return sorted(tasks, key=lambda task: natural(task.device_id))


def matches(task: TaskView, statuses: frozenset[str], search: str) -> bool:
    """Whether a phone is shown under these filters. The page's script decides by the same rule."""
    wanted = not statuses or task.status.value in statuses
    needle = search.strip().lower()
    return wanted and (not needle or needle in f"{task.device_id} {task.node_id} {task.step_id or ''}".lower())
