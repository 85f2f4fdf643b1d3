"""How a command ends: exit status 0 done, 1 done but not all succeeded, 2 could not be done (spec/09)."""

from typing import Final

DONE: Final = 0
NOT_ALL_SUCCEEDED: Final = 1
COULD_NOT: Final = 2


class CommandFailed(Exception):
    """The command could not be done. The text is one line: why, and what to do."""

    def __init__(self, message: str, *, exit_status: int = COULD_NOT) -> None:
        super().__init__(message)
        self.exit_status = exit_status
