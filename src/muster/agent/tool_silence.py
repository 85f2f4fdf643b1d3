"""What it means that the vendor tool gave no answer (spec/05): that it is silent, or one phone. Pure; time is given.

The tool answers for a phone when the phone has answered it, so one that hangs looks like a tool that hangs.

It is the *phone* that a time-out speaks of: no answer in time, or a picture that was promised and did not come. adb
takes the pictures of that phone for `REST_SEC`; of the others the tool takes them as before, however many hang (a hub).
It is the *tool* that is silent when it cannot be connected to, breaks a connection or talks no protocol; and when its
list does not come, for which it needs no phone (`preflight/node.py`). That holds until its next list.
A request that no connection was free for says nothing: the tool never had it.
"""

from dataclasses import dataclass, field
from typing import Final

from muster.vendor.errors import VendorError, VendorPictureMissing, VendorUnanswered, VendorUnavailable

REST_SEC: Final = 60.0


@dataclass(slots=True)
class ToolSilence:
    """Phones by handle; times are monotonic seconds. Bounded by the phones that rest."""

    _rests_until: dict[str, float] = field(default_factory=dict)

    def rests(self, handle: str, now: float) -> bool:
        """Whether the tool is not to be asked for this phone's picture."""
        return now < self._rests_until.get(handle, now)

    def ended(self, handle: str, error: VendorError | None, now: float) -> bool:
        """A request for the phone came to this end, None: as it should; whether the tool is silent."""
        if error is None:
            self._rests_until.pop(handle, None)
        elif isinstance(error, VendorUnanswered | VendorPictureMissing):
            self._rests_until = {other: until for other, until in self._rests_until.items() if now < until}
            self._rests_until[handle] = now + REST_SEC
        return isinstance(error, VendorUnavailable)
