"""Bugs that a world once found, put back: each the reverse of what mended it."""

from tests.world.mutation import Mutant, one

# Without it a file that nobody knows goes only with the next start.
_NO_TIDYING = ("agent.spool", "            await self._spool.tidy()\n", "")
_NOT_TOLD_THAT_IT_ANSWERS = ("agent.readiness", "elif await self._care.answered(device_id):", "elif True:")

MENDED = (
    one(
        "stop forgotten in a teardown",
        "agent.scheduler.loop",
        "        known.is_struck = True\n"
        "        if execution.cancelling():\n"
        '            _ = self._background.start(f"stop of {known.task_id}", self._stop_after_teardown(execution))\n',
        "        if execution.cancelling():\n            return\n",
        faults="renew stuck slow",
    ),
    one(
        "another attempt inherits the next slot",
        "agent.scheduler.loop",
        "        self._know(task)\n        self._apply(Again(task.task_id))\n",
        "        self._know(task)\n        self._apply(Recover(task.task_id))\n",
        faults="renew hang drop",
    ),
    one(
        "freshness judged by a task's first event",
        "agent.journal_tables",
        "AND older.position < outbox.position AND older.created_at_ms < ?)",
        "AND older.position = (SELECT MIN(first.position) FROM outbox first WHERE first.subject = outbox.subject)"
        " AND older.created_at_ms < ?)",
        faults="clock away",
    ),
    Mutant(
        "repaired under a task's hands",
        (
            (
                "agent.repair_turns",
                "        while (under_way := self._repairs.get(name) or self._repairs.get(None)) is not None:\n"
                "            await under_way.wait()\n",
                "",
            ),
            (
                "agent.repair_turns",
                "return name not in self.busy or self._asked_in.get(name) == self._executions[name]",
                "return True",
            ),
            _NOT_TOLD_THAT_IT_ANSWERS,
        ),
        ("care", "hang"),
    ),
    Mutant("repaired although it answers again", (_NOT_TOLD_THAT_IT_ANSWERS,), ("care", "hang")),
    one(
        "repaired although nobody waits any more",
        "agent.readiness",
        "            await self._care.waited_in_vain(device_id)\n",
        "",
        faults="care hang lost cut",
    ),
    one(
        "stale while the agent starts",
        "agent.composition",
        "        for task_id, attempt in stale.items():\n            loop.fence(task_id, attempt)\n",
        "",
        faults="renew hang kill cut",
    ),
    one(
        "stale, and then a kill",
        "agent.resume",
        "        if known.is_stale:\n",
        "        if False:\n",
        faults="renew hang kill cut",
    ),
    one(
        "an owner's error told as a group",
        "runtime.supervision",
        "            if group.exceptions != (error,):\n                raise\n",
        "            raise\n",
        faults="care full io_error kill",
    ),
    Mutant(
        "stored picture's file kept after a kill",
        (
            _NO_TIDYING,
            (
                "agent.spool",
                "                self._spool.discard(picture)\n",
                "",
            ),
        ),
        ("kill_at_commit", "upload"),
    ),
    Mutant("cut-off picture's file kept", (_NO_TIDYING,), ("slow_disk", "cancel")),
    Mutant(
        "unrecorded picture's file kept",
        (
            _NO_TIDYING,
            (
                "agent.spool",
                "        except (OSError, JournalError) as error:\n            self._discard(path)\n",
                "        except (OSError, JournalError) as error:\n",
            ),
        ),
        ("io_error", "full", "slow_disk"),
    ),
)
