"""How wrong nodes' clocks are. They decide nothing (R8.6), but what people read is off by that: they are told."""

from collections import deque
from typing import Final

from muster.domain.limits import CLOCK_SKEW_MS_MAX
from muster.runtime.logs import get_logger

# A minute of heartbeats: what is on its way for long makes a clock look slow, so the fastest of them says it best.
HEARTBEATS: Final = 6
_log = get_logger()


class NodeClocks:
    """In memory alone: after a restart the next heartbeats bring it back."""

    def __init__(self) -> None:
        self._ahead_ms: dict[str, deque[int]] = {}

    def note(self, node_id: str, told_ms: int, now_ms: int) -> None:
        """A heartbeat that was made at `told_ms` by the node's clock has come at `now_ms` by ours."""
        was_wrong = self._is_wrong(node_id)
        self._ahead_ms.setdefault(node_id, deque(maxlen=HEARTBEATS)).append(told_ms - now_ms)
        if self._is_wrong(node_id) and not was_wrong:
            _log.warning("A node's clock is wrong", node_id=node_id, ahead_ms=self.ahead_ms(node_id))
        elif was_wrong and not self._is_wrong(node_id):
            _log.info("A node's clock is right again", node_id=node_id)

    def ahead_ms(self, node_id: str) -> int | None:
        """How far it is ahead of ours, a little less at most; None: it has not been heard of since we started."""
        return max(self._ahead_ms.get(node_id, ()), default=None)

    def _is_wrong(self, node_id: str) -> bool:
        ahead_ms = self.ahead_ms(node_id)
        return ahead_ms is not None and abs(ahead_ms) > CLOCK_SKEW_MS_MAX
