"""A time-out speaks of the phone that was asked for; when it speaks of the tool."""

import pytest

from muster.agent.tool_silence import REST_SEC, ToolSilence
from muster.vendor.errors import (
    VendorBusy,
    VendorError,
    VendorMalformed,
    VendorPictureMissing,
    VendorRefused,
    VendorUnanswered,
    VendorUnavailable,
)

UNANSWERED, MISSING = VendorUnanswered("silent"), VendorPictureMissing(10_000, "none came")


@pytest.mark.parametrize("error", [UNANSWERED, MISSING])
def test_one_silent_phone_rests_for_a_while_and_no_other_does(error: VendorError) -> None:
    silence = ToolSilence()
    assert not any(silence.ended("hung", error, now) for now in (0.0, 10.0, 20.0, 30.0)), "however often"
    assert silence.rests("hung", 30.0) and not silence.rests("well", 30.0)
    assert not silence.rests("hung", 30.0 + REST_SEC)


def test_a_phone_that_the_tool_answers_for_again_rests_no_more() -> None:
    silence = ToolSilence()
    silence.ended("hung", UNANSWERED, 0.0)
    assert not silence.ended("hung", None, 1.0)
    assert not silence.rests("hung", 1.0)


@pytest.mark.parametrize("error", [VendorUnavailable("gone"), VendorMalformed("rubbish")])
def test_a_tool_that_cannot_be_talked_to_is_silent_at_once_and_no_phone_rests_for_it(error: VendorError) -> None:
    silence = ToolSilence()
    assert silence.ended("any", error, 0.0)
    assert not silence.rests("any", 0.0)


def test_a_hub_that_hangs_takes_the_tool_from_none_of_the_other_phones() -> None:
    silence = ToolSilence()
    assert not any(silence.ended(f"phone-{number}", UNANSWERED, 0.0) for number in range(20))
    assert silence.rests("phone-19", 0.0) and not silence.rests("well", 0.0)


def test_a_tool_that_says_no_is_there_and_its_phone_does_not_rest() -> None:
    silence = ToolSilence()
    assert not silence.ended("any", VendorRefused(10_001, "无"), 0.0)
    assert not silence.rests("any", 0.0)


def test_a_request_that_found_no_free_connection_says_nothing() -> None:
    silence = ToolSilence()
    assert not any(silence.ended(f"phone-{number}", VendorBusy("busy"), 0.0) for number in range(20))
    assert not silence.rests("phone-0", 0.0)
