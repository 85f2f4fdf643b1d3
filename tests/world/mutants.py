"""Small bugs that the world must find within a few seeds, each a named change of the agent's source.

`python -m tests.world.mutants NAME [SEED …]` runs worlds with that bug, or with one of `mended`, and says what was
found; 0 when it was.
"""

import sys
from collections.abc import Sequence

from tests.world.mended import MENDED
from tests.world.mutation import Mutant, hunt, one

SEEDS_MAX = 100
MENDED_SEEDS_MAX = 3_000

MUTANTS = (
    Mutant(
        "lock released before teardown",
        (
            (
                "agent.scheduler.loop",
                "                self._stop_execution(self._known[task_id])\n",
                "                self._stop_execution(self._known[task_id])\n"
                "                if task_id in self._held:\n"
                "                    self._parts.locks.release(self._known[task_id].task.device_id)\n",
            ),
            (
                "agent.scheduler.loop",
                "            self._parts.locks.release(task.device_id)\n",
                "            if not known.is_cancelled:\n                self._parts.locks.release(task.device_id)\n",
            ),
        ),
        ("cancel", "stuck"),
    ),
    one(
        "slot leaked on cancel",
        "agent.scheduler.loop",
        "        self._apply(following)\n",
        "        if known.stop is None:\n            self._apply(following)\n",
        faults="cancel",
    ),
    one("fifo broken on retry", "agent.scheduler.decide", "    lane.waiting.move_to_end(task_id, last=False)\n", ""),
    one(
        "one task too many",
        "agent.scheduler.decide",
        "state.running < state.slots and",
        "state.running <= state.slots and",
    ),
    one(
        "the first phone is always next",
        "agent.scheduler.decide",
        "    lane.recovered = None\n    state.services += 1\n    lane.served = state.services\n",
        "    lane.recovered = None\n",
    ),
    one(
        "parked task forgotten",
        "agent.scheduler.loop",
        'log.info("The phone answers again")\n                self._apply(Recover(task.task_id))\n',
        'log.info("The phone answers again")\n',
    ),
    one(
        "grace timer not cleared",
        "agent.scheduler.loop",
        'log.info("The phone answers again")\n                self._apply(Recover(task.task_id))\n',
        'log.info("The phone answers again")\n                self._apply(Recover(task.task_id))\n'
        "                await clock.sleep(2.0)\n"
        "                self.cancel(task.task_id)\n",
    ),
    one(
        "stale attempt obeyed",
        "agent.scheduler.loop",
        "known.task.attempt <= attempt:",
        "known.task.attempt < attempt:",
        faults="renew",
    ),
    one(
        "superseded attempt works on",
        "agent.scheduler.loop",
        "            known.want_end(StopReason.FENCED)\n            self._stop_execution(known)\n",
        "",
        faults="renew",
    ),
    Mutant(
        "event written after the state",
        (
            (
                "agent.journal_sqlite",
                "return await self._write(lambda connection: self._end_task(connection, finished))",
                "self.__dict__[finished.task_id] = await self._commits.run(\n"
                "            lambda connection: tables.end(connection, finished))\n"
                "        return await self._write(lambda connection: self._end_task(connection, finished))",
            ),
            (
                "agent.journal_sqlite",
                "seq = tables.end(connection, finished, takes_seq=is_told)",
                "seq = self.__dict__.pop(finished.task_id, None) or tables.end(connection, finished)",
            ),
        ),
    ),
    one(
        "duplicate applied: sent again under a new id",
        "agent.outbox",
        "_Item(event.position, event.body)",
        '_Item(event.position, {**event.body, "event_id": self._new_id()} if self._failures else event.body)',
    ),
    one(
        "seq restarted",
        "agent.resume",
        "    cancelled = await journal.cancelled_tasks()\n",
        "    cancelled = await journal.cancelled_tasks()\n"
        '    await journal._commits.run(lambda connection: connection.execute("UPDATE tasks SET next_seq = 1"))\n',
    ),
    one(
        "dead letter blocking",
        "agent.link",
        "    return 400 <= status < 500 and status not in (401, 403, 408, 429)\n",
        "    return False\n",
    ),
    Mutant(
        "terminal state overwritten",
        (
            ("agent.journal_tables", "        SOURCES[finished.status],\n", "        TaskState,\n"),
            (
                "agent.journal_tables",
                "\" WHERE state IN ('queued', 'running', 'waiting') ORDER BY position\"",
                "\" WHERE state IN ('queued', 'running', 'waiting', 'succeeded') ORDER BY position\"",
            ),
        ),
    ),
    one(
        "drain that drops",
        "agent.composition",
        '                log.warning("Some events are not told yet; they wait in the journal")\n',
        "                events = await self._ports.journal.pending(10_000, 1 << 30)\n"
        "                await self._ports.journal.settle([event.position for event in events], [])\n",
        faults="restart away",
    ),
    one(
        "queued task forgotten by a restart",
        "agent.resume",
        "            tasks.append(Task(known.task_id, known.device_id, known.attempt, plan))\n",
        "            pass\n",
    ),
    one(
        "settled before it is sent",
        "agent.outbox",
        "                return _Round.EMPTY\n            await self._deliver(items)\n",
        "                return _Round.EMPTY\n"
        "            await self._outbox.settle([event.position for event in events], [])\n"
        "            await self._deliver(items)\n",
    ),
    one(
        "running task taken up again after a kill",
        "agent.resume",
        "        elif known.state is TaskState.RUNNING:\n",
        "        elif known.state is TaskState.WAITING:\n",
    ),
    one(
        "an operator's order acknowledged and not kept",
        "agent.journal_sqlite",
        "            if is_new and order is not None:\n                orders.add(connection, order)\n",
        "",
        faults="action care kill_at_commit",
    ),
    one(
        "told as done, never sent to the phone",
        "agent.executor.steps.adb",
        "    output = await context.shell(command)\n",
        '    if command.endswith(" 2"):\n        return StepResult(exit_code=0)\n'
        "    output = await context.shell(command)\n",
    ),
    one(
        "run with a cancelled task never ends",
        "agent.journal_tables",
        "    if any(counts[state] for state in OPEN_TASK_STATES):\n",
        "    if any(counts[state] for state in (*OPEN_TASK_STATES, TaskState.CANCELLED)):\n",
        faults="cancel",
    ),
)


def main(name: str, seeds: Sequence[int]) -> int:
    """0: found."""
    mutant = next(mutant for mutant in (*MUTANTS, *MENDED) if mutant.name == name)
    found = hunt(mutant, seeds or range(SEEDS_MAX if mutant in MUTANTS else MENDED_SEEDS_MAX))
    sys.stdout.write(f"{name}: {found or 'NOT FOUND'}\n")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [int(seed) for seed in sys.argv[2:]]))
