"""What it means that the vendor tool gave no answer (spec/05): that it is silent, or one phone. Pure; time is given.

The tool answers for a phone when the phone has answered it, so one that hangs looks like a tool that hangs.

It is the *phone* that a time-out speaks of: no answer in time, or a picture that was promised and did not come. adb
takes the pictures of that phone for `REST_SEC`; of the others the tool takes them as before.
It is the *tool* that is silent when it cannot be connected to, breaks a connection or talks no protocol; when its list
does not come (`preflight/node.py`); and when it left `SILENT_PHONES` different phones in a row unanswered and meanwhile
answered nothing at all, no list either. That holds until its next list.
A request that no connection was free for says nothing: the tool never had it.
"""

from dataclasses import dataclass, field
from typing import Final

from muster.vendor.errors import VendorBusy, VendorError, VendorPictureMissing, VendorRefused, VendorUnanswered

REST_SEC: Final = 60.0
SILENT_PHONES: Final = 3


@dataclass(slots=True)
class ToolSilence:
    """Phones by handle; times are monotonic seconds. Bounded by the phones that rest."""

    _unanswered: set[str] = field(default_factory=set)
    _rests_until: dict[str, float] = field(default_factory=dict)

    def rests(self, handle: str, now: float) -> bool:
        """Whether the tool is not to be asked for this phone's picture."""
        return now < self._rests_until.get(handle, now)

    def answered(self) -> None:
        """The tool said something, to anybody."""
        self._unanswered.clear()

    def ended(self, handle: str, error: VendorError | None, now: float) -> bool:
        """A request for the phone came to this end, None: as it should; whether the tool is silent."""
        match error:
            case None:
                self.answered()
                self._rests_until.pop(handle, None)
            case VendorPictureMissing():
                self.answered()
                self._rest(handle, now)
            case VendorRefused():
                self.answered()
            case VendorUnanswered():
                self._unanswered.add(handle)
                self._rest(handle, now)
                return len(self._unanswered) >= SILENT_PHONES
            case VendorBusy():
                pass
            case _:
                return True
        return False

    def _rest(self, handle: str, now: float) -> None:
        self._rests_until = {other: until for other, until in self._rests_until.items() if now < until}
        self._rests_until[handle] = now + REST_SEC
