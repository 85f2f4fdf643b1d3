"""Small bugs put into the product's source in memory; the world must find each within a few seeds.

`python -m tests.world.mutants NAME` runs worlds with that bug and says what was found; 0 when it was.
"""

import importlib
import importlib.abc
import importlib.machinery
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType

SEEDS_MAX = 100


@dataclass(frozen=True, slots=True)
class Mutant:
    """`patches`: (module under `muster.agent`, what stands there exactly once, what stands there instead).

    `needs`: the kind of fault without which nothing can come of it; the hunt is in worlds that have it.
    """

    name: str
    patches: tuple[tuple[str, str, str], ...]
    needs: str | None = None


def _one(name: str, module: str, old: str, new: str, *, needs: str | None = None) -> Mutant:
    return Mutant(name, ((module, old, new),), needs)


MUTANTS = (
    Mutant(
        "lock released before teardown",
        (
            (
                "scheduler.loop",
                "                self._stop_execution(self._known[task_id])\n",
                "                self._stop_execution(self._known[task_id])\n"
                "                if task_id in self._held:\n"
                "                    self._parts.locks.release(self._known[task_id].task.device_id)\n",
            ),
            (
                "scheduler.loop",
                "            self._parts.locks.release(task.device_id)\n",
                "            if not known.is_cancelled:\n                self._parts.locks.release(task.device_id)\n",
            ),
        ),
    ),
    _one(
        "slot leaked on cancel",
        "scheduler.loop",
        "        self._apply(following)\n",
        "        if known.stop is None:\n            self._apply(following)\n",
        needs="cancel",
    ),
    _one("fifo broken on retry", "scheduler.decide", "    lane.waiting.move_to_end(task_id, last=False)\n", ""),
    _one(
        "one task too many", "scheduler.decide", "state.running < state.slots and", "state.running <= state.slots and"
    ),
    _one(
        "the first phone is always next",
        "scheduler.decide",
        "    lane.recovered = None\n    state.services += 1\n    lane.served = state.services\n",
        "    lane.recovered = None\n",
    ),
    _one(
        "parked task forgotten",
        "scheduler.loop",
        'log.info("The phone answers again")\n                self._apply(Recover(task.task_id))\n',
        'log.info("The phone answers again")\n',
    ),
    _one(
        "grace timer not cleared",
        "scheduler.loop",
        'log.info("The phone answers again")\n                self._apply(Recover(task.task_id))\n',
        'log.info("The phone answers again")\n                self._apply(Recover(task.task_id))\n'
        "                await clock.sleep(2.0)\n"
        "                self.cancel(task.task_id)\n",
    ),
    _one(
        "stale attempt obeyed",
        "scheduler.loop",
        "known.task.attempt <= attempt:",
        "known.task.attempt < attempt:",
        needs="renew",
    ),
    _one(
        "superseded attempt works on",
        "scheduler.loop",
        "            known.want_end(StopReason.FENCED)\n            self._stop_execution(known)\n",
        "",
        needs="renew",
    ),
    Mutant(
        "event written after the state",
        (
            (
                "journal_sqlite",
                "return await self._write(lambda connection: self._end_task(connection, finished))",
                "self.__dict__[finished.task_id] = await self._commits.run(\n"
                "            lambda connection: tables.end(connection, finished))\n"
                "        return await self._write(lambda connection: self._end_task(connection, finished))",
            ),
            (
                "journal_sqlite",
                "seq = tables.end(connection, finished, takes_seq=is_told)",
                "seq = self.__dict__.pop(finished.task_id, None) or tables.end(connection, finished)",
            ),
        ),
    ),
    _one(
        "duplicate applied: sent again under a new id",
        "outbox",
        "_Item(event.position, event.body)",
        '_Item(event.position, {**event.body, "event_id": self._new_id()} if self._failures else event.body)',
    ),
    _one(
        "seq restarted",
        "resume",
        "    cancelled = await journal.cancelled_tasks()\n",
        "    cancelled = await journal.cancelled_tasks()\n"
        '    await journal._commits.run(lambda connection: connection.execute("UPDATE tasks SET next_seq = 1"))\n',
    ),
    _one(
        "dead letter blocking",
        "link",
        "    return 400 <= status < 500 and status not in (401, 403, 408, 429)\n",
        "    return False\n",
    ),
    Mutant(
        "terminal state overwritten",
        (
            ("journal_tables", "        SOURCES[finished.status],\n", "        TaskState,\n"),
            (
                "journal_tables",
                "\" WHERE state IN ('queued', 'running', 'waiting') ORDER BY position\"",
                "\" WHERE state IN ('queued', 'running', 'waiting', 'succeeded') ORDER BY position\"",
            ),
        ),
    ),
    _one(
        "drain that drops",
        "composition",
        '                log.warning("Some events are not told yet; they wait in the journal")\n',
        "                events = await self._ports.journal.pending(10_000, 1 << 30)\n"
        "                await self._ports.journal.settle([event.position for event in events], [])\n",
        needs="restart",
    ),
    _one(
        "queued task forgotten by a restart",
        "resume",
        "            tasks.append(Task(known.task_id, known.device_id, known.attempt, plan))\n",
        "            pass\n",
    ),
    _one(
        "settled before it is sent",
        "outbox",
        "                return _Round.EMPTY\n            await self._deliver(items)\n",
        "                return _Round.EMPTY\n"
        "            await self._outbox.settle([event.position for event in events], [])\n"
        "            await self._deliver(items)\n",
    ),
    _one(
        "running task taken up again after a kill",
        "resume",
        "        elif known.state is TaskState.RUNNING:\n",
        "        elif known.state is TaskState.WAITING:\n",
    ),
)


class _Patched(importlib.machinery.SourceFileLoader):
    """Loads a module from its source with the patches in it."""

    patches: Sequence[tuple[str, str]] = ()

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_source(fullname)
        assert source is not None
        for old, new in self.patches:
            if source.count(old) != 1:
                raise LookupError(f"{fullname} has {source.count(old)} times what the mutant replaces: {old!r}")
            source = source.replace(old, new)
        return compile(source, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutated modules before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        patches = [(old, new) for name, old, new in self._mutant.patches if f"muster.agent.{name}" == fullname]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target) if patches else None
        if spec is None or spec.origin is None:
            return None
        loader = _Patched(fullname, spec.origin)
        loader.patches = patches
        spec.loader = loader
        return spec


def hunt(mutant: Mutant) -> str | None:
    """What the first world that finds the bug says; None when none does. Imports the agent: once a process."""
    assert not any(name.startswith("muster.agent") for name in sys.modules), (
        "the agent is here already, without the bug"
    )
    sys.meta_path.insert(0, _Finder(mutant))
    world = importlib.import_module("tests.world.world")
    draw = importlib.import_module("tests.world.faults").draw
    seeds = (seed for seed in itertools.count() if mutant.needs is None or mutant.needs in draw(seed).kinds)
    for seed in itertools.islice(seeds, SEEDS_MAX):
        told = world.run_seed(seed)
        if told.violation is not None:
            return f"seed {seed}: {told.violation}"
    return None


def main(name: str) -> int:
    """0: found."""
    found = hunt(next(mutant for mutant in MUTANTS if mutant.name == name))
    sys.stdout.write(f"{name}: {found or 'NOT FOUND'}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
