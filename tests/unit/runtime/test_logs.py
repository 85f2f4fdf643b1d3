"""Log lines, those of libraries too: one form, one object a line, no password of an address."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from muster.runtime.logs import bind_context, configure_logs, get_logger, masked_logs
from muster.runtime.masking import Mask


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logs(json_lines=True, stream=stream)
    yield stream
    configure_logs()
    structlog.reset_defaults()


def told(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_what_a_library_logs_is_a_line_like_all_others(lines: io.StringIO) -> None:
    with bind_context(node_id="PC-01"), masked_logs(Mask(["a-secret"])):
        try:
            raise ValueError("of a-secret\nat ws://muster:hidden@pc-1")
        except ValueError:
            logging.getLogger("some.library").exception("failed with %s", "a-secret")
        logging.getLogger("some.library").info("nobody asked for this")
    (line,) = told(lines)
    assert (line["event"], line["level"], line["library"]) == ("failed with ***", "error", "some.library")
    assert (line["node_id"], "timestamp" in line) == ("PC-01", True)
    assert "ws://muster:***@pc-1" in str(line["exception"])


def test_a_library_s_line_that_cannot_be_put_together_does_not_raise_in_the_library(lines: io.StringIO) -> None:
    # Not by way of a logger: pytest listens too, and raises.
    (ours,) = (handler for handler in logging.root.handlers if type(handler).__module__ == "muster.runtime.logs")
    ours.handle(
        logging.makeLogRecord({"name": "some.library", "levelno": 30, "msg": "%d phones", "args": ("a-secret",)})
    )
    (line,) = told(lines)
    assert line["event"] == "%d phones (a line that cannot be put together: TypeError)"


def test_a_library_is_heard_once_however_often_logs_are_configured(lines: io.StringIO) -> None:
    configure_logs(json_lines=True, stream=lines)
    logging.getLogger("some.library").warning("once")
    assert [line["event"] for line in told(lines)] == ["once"]


def test_only_errors_of_libraries_are_told_where_only_errors_are_wanted(lines: io.StringIO) -> None:
    configure_logs(json_lines=True, stream=lines, level="error")
    logging.getLogger("some.library").warning("not this")
    logging.getLogger("some.library").error("this")
    assert [line["event"] for line in told(lines)] == ["this"]


async def test_a_task_that_nobody_waited_for_is_told_in_a_line(lines: io.StringIO) -> None:
    """By asyncio itself: with a trace of many lines, and past the mask, if it were left alone."""
    asyncio.get_running_loop().call_exception_handler({"message": "never retrieved", "exception": ValueError("a\nb")})
    (line,) = told(lines)
    assert (line["event"], line["library"]) == ("never retrieved", "asyncio")


def test_the_password_of_an_address_is_in_no_line(lines: io.StringIO) -> None:
    get_logger().warning("at http://muster:hidden@pc-1", url="ws://token-hidden@pc-1:1/x", error=["http://a:hidden@b"])
    assert "hidden" not in lines.getvalue()
    (line,) = told(lines)
    assert (line["event"], line["url"]) == ("at http://muster:***@pc-1", "ws://***@pc-1:1/x")
