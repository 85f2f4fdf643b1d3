"""Log lines that always carry run, node and device where they apply (R7.1).

Text:  `2026-11-22T03:00:00.123Z info  [run_id=… node_id=PC-01 device_id=ABC123] Task started  attempt=1`
JSON:  the same keys, one object a line.

Use: `log = get_logger(); log.info("Task started", run_id=…, device_id=…)`. `bind_context(run_id=…)` sets the keys
for everything logged in the current asyncio task and those it starts.
"""

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import structlog

from muster.runtime.masking import hide_passwords

CONTEXT_KEYS = ("run_id", "node_id", "device_id")
_masks: list[Callable[[str], str]] = []
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(*, json_lines: bool = False, level: str = "info", stream: TextIO | None = None) -> None:
    """Sends log lines to `stream` (stderr). Stdout belongs to a command's answer."""
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False) if json_lines else _render_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
            _mask_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    _listen_to_libraries(max(logging.WARNING, _LEVELS[level]))


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The logger; what it prints is set by `configure_logs`."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


@contextmanager
def bind_context(**keys: str) -> Iterator[None]:
    """Adds `run_id`, `node_id`, `device_id`, … to every line logged inside."""
    with structlog.contextvars.bound_contextvars(**keys):
        yield


@contextmanager
def masked_logs(mask: Callable[[str], str]) -> Iterator[None]:
    """Every line that is logged inside, traces included, goes through `mask` as a whole (R7.2)."""
    _masks.append(mask)
    try:
        yield
    finally:
        _masks.remove(mask)


def masked(text: str) -> str:
    """`text` as a line of the log would have it."""
    text = hide_passwords(text)
    for mask in _masks:
        text = mask(text)
    return text


def _listen_to_libraries(level: int) -> None:
    """Lines of theirs would have another form, and pass every mask."""
    for handler in logging.root.handlers[:]:
        if isinstance(handler, _OfLibraries):
            logging.root.removeHandler(handler)
    logging.root.addHandler(_OfLibraries(level))


class _OfLibraries(logging.Handler):
    """What libraries say by the standard library's `logging`, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, with its trace."""
        level = logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with their line is not to end their work
            # Without its arguments: nobody knows what they hold.
            message = f"{record.msg} (a line that cannot be put together: {type(error).__name__})"
        # Nobody reads the log any more, which is not the library's fault either.
        with suppress(OSError, ValueError):
            get_logger().log(level, message, library=record.name, exc_info=record.exc_info)


def _mask_line(_logger: object, _name: str, rendered: Any) -> str:
    return masked(str(rendered))


def _render_text(_logger: object, _name: str, event: MutableMapping[str, Any]) -> str:
    timestamp, level = event.pop("timestamp"), event.pop("level")
    message, trace = event.pop("event"), event.pop("exception", None)
    context = " ".join(f"{key}={event.pop(key)}" for key in CONTEXT_KEYS if key in event)
    rest = " ".join(f"{key}={_one_line(value)}" for key, value in event.items())
    line = f"{timestamp} {level:<7} {f'[{context}] ' if context else ''}{_one_line(message)}"
    return line + (f"  {rest}" if rest else "") + (f"\n{trace}" if trace else "")


def _one_line(value: object) -> str:
    """A phone's output must not be able to forge a log line of its own."""
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
