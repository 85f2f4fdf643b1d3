"""How long ago each node or phone gave its last sign, by a clock that nobody can set.

Within one life of the backend the wall clock plays no part: put back by an hour it would keep whoever is gone online
for that hour. Across a restart it is the only one there is; then a sign is never from the future. Linux stops the
monotonic clock while the PC is suspended: that time is part of no age.
"""

from muster.runtime.clock import Clock


class LastSigns:
    """The newest sign of each, by id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at_ms: dict[str, int] = {}

    def note(self, name: str, age_ms: int = 0) -> bool:
        """A sign from `age_ms` ago; False when a newer one (or this one) is known."""
        at_ms = self._monotonic_ms() - age_ms
        if name in self._at_ms and self._at_ms[name] >= at_ms:
            return False
        self._at_ms[name] = at_ms
        return True

    def recall(self, name: str, wall_ms: int | None) -> None:
        """What a life before wrote down, in epoch ms of the wall clock; None: nothing was ever heard."""
        if wall_ms is not None:
            self.note(name, max(self._clock.now_ms() - wall_ms, 0))

    def age_ms(self, name: str) -> int | None:
        """Since its newest sign; None: there never was one."""
        at_ms = self._at_ms.get(name)
        return None if at_ms is None else self._monotonic_ms() - at_ms

    def _monotonic_ms(self) -> int:
        return round(self._clock.monotonic() * 1000)
