"""The deadline fence (spec/10): a command that a hung phone keeps must not start when the phone thaws too late.

A command that was cancelled still runs when its phone goes on. So it asks the phone's own clock first, and ends without
having done anything when its time is over. Pure: text in, text out.

    [ "$(date +%s)" -le 1739012345 ] || { echo "muster-fence $(date +%s)" >&2; exit 124; }
    the command, as it was

The fence has a line of its own, so that nothing in the command can change its meaning; the status is the command's own.
What has no shell cannot be fenced: actions of the vendor tool, and the bytes of a file on their way.
"""

import re
from typing import Final

from muster.domain.limits import PHONE_CLOCK_SEC_MAX

REFUSED_STATUS: Final = 124
"""As `timeout` says that time was up."""
SHELL_BYTES_MAX: Final = 65_300
"""adb carries 65,535 bytes with the service's name before the command."""
_MARK: Final = "muster-fence"
_REFUSAL: Final = re.compile(rb"\A" + _MARK.encode() + rb" ([0-9]{1,10})\r?\n?\Z")


def fenced(command: str, deadline_sec: int, *, timeout_sec: int | None = None) -> str:
    """`command`, which starts only while the phone's clock shows `deadline_sec` (epoch seconds) or less.

    `timeout_sec`: it is also ended by the phone's own `timeout` after so long, where there is room for that.
    Raises ValueError for a deadline that mksh cannot compare.
    """
    if not 0 < deadline_sec <= PHONE_CLOCK_SEC_MAX:
        raise ValueError(f"{deadline_sec} is not between 1 and {PHONE_CLOCK_SEC_MAX}")
    late = f'{{ echo "{_MARK} $(date +%s)" >&2; exit {REFUSED_STATUS}; }}'
    guard = f'[ "$(date +%s)" -le {deadline_sec} ] || {late}\n'
    if timeout_sec is not None:
        quoted = command.replace("'", "'\\''")
        limited = f"{guard}timeout {timeout_sec} sh -c '{quoted}'"
        if len(limited.encode("utf-8", "surrogatepass")) <= SHELL_BYTES_MAX:
            return limited
    return guard + command


def refused_at(exit_code: int, stderr: bytes) -> int | None:
    """What the phone's clock showed when the fence held the command back; None when the command ran."""
    found = _REFUSAL.match(stderr) if exit_code == REFUSED_STATUS else None
    return int(found[1]) if found else None
