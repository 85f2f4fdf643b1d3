"""Even a bug, whose words nobody has chosen, tells no secret."""

import pytest
from tests.support.phones import MemoryPhone, MemoryPhones, MemorySpool, Told, executor_settings, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import Fence, ShellOutput
from muster.agent.preflight.device import PROBE
from muster.agent.secrets import NodeSecrets

SECRET = "canary secret"


class BuggyPhone(MemoryPhone):
    """Falls over with the whole command in its words."""

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        if command != PROBE:
            raise ValueError(f"cannot say {command}")
        return await super().shell(command, fence=fence)


@pytest.mark.parametrize(("command", "kind"), [("echo {{secret.S}}", RuntimeError), ("echo harmless", ValueError)])
def test_a_bug_is_raised_without_the_secret_in_its_words(command: str, kind: type[Exception]) -> None:
    async def execute() -> None:
        phones = MemoryPhones()
        phones.add(BuggyPhone())
        settings = executor_settings(secrets=NodeSecrets({"S": SECRET}))
        executor = TaskExecutor(phones, MemorySpool(), settings, LoopClock())
        await executor.execute(task(plan({"id": "a", "kind": "adb", "command": command})), Told())

    with pytest.raises(kind, match="cannot say") as raised:
        run_in_virtual_time(execute())
    assert SECRET not in repr(raised.value)
    assert raised.value.__cause__ is None and (kind is ValueError or raised.value.__suppress_context__)
