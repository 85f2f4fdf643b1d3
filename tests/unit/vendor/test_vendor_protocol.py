import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.vendor.protocol import (
    DeviceMode,
    Malformed,
    VendorAnswer,
    VendorList,
    parse_answer,
    parse_list,
    request,
)

ENTRY: dict[str, Any] = {
    "serial": "10.0.0.7:5555",
    "onlySerial": "R58M12ABCDE",
    "name": "三号机",
    "model": "SM-G973",
    "sort": 3,
    "mode": 1,
    "status": "online",
    "connectTime": "2026-11-22 10:00:00",
    "intranetIp": "10.0.0.7",
    "width": 1080,
    "height": "2280",
    "sourceWidth": 1080,
    "sourceHeight": 2280,
    "hide": False,
}


def listed(*entries: Any) -> VendorList:
    parsed = parse_list(list(entries))
    assert isinstance(parsed, VendorList)
    return parsed


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_request_without_phones_names_only_its_action() -> None:
    assert request("list") == '{"action": "list"}'


def test_phones_are_joined_by_commas_and_values_stay_text() -> None:
    assert json.loads(request("screen", ["A", "10.0.0.7:5555"], {"savePath": "D:\\보기"})) == {
        "action": "screen",
        "devices": "A,10.0.0.7:5555",
        "data": {"savePath": "D:\\보기"},
    }


@pytest.mark.parametrize("serial", ["A,B", ""])
def test_a_serial_that_would_mean_other_phones_is_refused(serial: str) -> None:
    with pytest.raises(ValueError, match="comma"):
        request("screen", [serial])


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_has_code_message_and_data() -> None:
    assert parse_answer(b'{"code": 10000, "message": "SUCCESS", "data": [1]}') == VendorAnswer(10000, "SUCCESS", [1])


def test_a_refusal_is_an_answer_and_its_message_may_be_chinese() -> None:
    wire = '{"code": 10001, "message": "设备不在线"}'.encode()
    assert parse_answer(wire) == VendorAnswer(10001, "设备不在线", None)


def test_a_message_is_cut_and_can_be_told_on() -> None:
    answer = parse_answer(b'{"code": 10001, "message": "half \\ud83d' + b"x" * 100_000 + b'"}')
    assert isinstance(answer, VendorAnswer)
    assert answer.message.startswith("half ?x") and len(answer.message) == 256


def test_a_code_written_as_text_is_understood() -> None:
    assert parse_answer(b'{"code": "10000"}') == VendorAnswer(10000, "", None)


RUBBISH = [
    b"",
    b"hello",
    b"[]",
    b"null",
    b'"code"',
    b"{}",
    b'{"code": true}',
    b'{"code": 1.5}',
    b'{"code": null}',
    b'{"code": "done"}',
    b'{"code": 10000',
    b"\xc9\xe8\xb1\xb8",  # GBK
    b"[" * 100_000,
    b'{"code": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("wire", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_is_a_verdict_with_a_short_reason(wire: bytes) -> None:
    verdict = parse_answer(wire)
    assert isinstance(verdict, Malformed)
    assert 0 < len(verdict.detail) < 600


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_verdict(wire: bytes) -> None:
    assert isinstance(parse_answer(wire), VendorAnswer | Malformed)


# ---- list ------------------------------------------------------------------------------------------------------------


def test_a_phone_is_taken_as_given() -> None:
    (device,) = listed(ENTRY).devices
    assert (device.only_serial, device.serial, device.name) == ("R58M12ABCDE", "10.0.0.7:5555", "三号机")
    assert (device.mode, device.is_online, device.width, device.height) == (DeviceMode.WIFI, True, 1080, 2280)
    assert (device.sort, device.intranet_ip, device.is_hidden) == (3, "10.0.0.7", False)


def test_a_serial_is_neither_trimmed_nor_lowered() -> None:
    (device,) = listed(ENTRY | {"serial": " aB ", "onlySerial": "00Ab "}).devices
    assert (device.serial, device.only_serial) == (" aB ", "00Ab ")


def test_numbers_are_taken_as_numbers_or_text() -> None:
    (device,) = listed(ENTRY | {"mode": "0", "onlySerial": 123456}).devices
    assert (device.mode, device.only_serial) == (DeviceMode.USB, "123456")


def test_what_is_missing_or_odd_beside_the_serials_is_left_open() -> None:
    (device,) = listed({"serial": "A", "onlySerial": "B", "mode": 77, "width": "wide", "hide": None}).devices
    assert (device.mode, device.width, device.height, device.is_online, device.is_hidden) == (
        None,
        None,
        None,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({k: v for k, v in ENTRY.items() if k != "onlySerial"}, "has no onlySerial"),
        (ENTRY | {"onlySerial": ""}, "has no onlySerial"),
        (ENTRY | {"onlySerial": None}, "has no onlySerial"),
        (ENTRY | {"onlySerial": True}, "has no onlySerial"),
        (ENTRY | {"onlySerial": ["x"]}, "has no onlySerial"),
        (ENTRY | {"serial": ""}, "no serial that can be addressed"),
        (ENTRY | {"serial": "A,B"}, "no serial that can be addressed"),
        (ENTRY | {"onlySerial": "\ud800"}, "onlySerial"),
        (ENTRY | {"onlySerial": "R58M\n12"}, "onlySerial"),
        (ENTRY | {"onlySerial": "R" * 129}, "onlySerial"),
        (ENTRY | {"serial": "\udfff"}, "no serial that can be addressed"),
        (ENTRY | {"serial": "A\x00"}, "no serial that can be addressed"),
        (ENTRY | {"serial": "A" * 257}, "no serial that can be addressed"),
        ("phone", "not an object"),
    ],
)
def test_an_entry_that_cannot_be_one_phone_is_reported_not_guessed(entry: Any, problem: str) -> None:
    parsed = listed(entry, ENTRY)
    assert [device.only_serial for device in parsed.devices] == ["R58M12ABCDE"]
    (told,) = parsed.problems
    assert told.startswith("list entry 0 ")
    assert problem in told


def test_what_is_only_shown_is_cut_and_made_text() -> None:
    odd = {"model": "M" * 100_000, "name": "half \ud83d", "intranetIp": "1\x1b[2J", "connectTime": ["x"]}
    (device,) = listed(ENTRY | odd).devices
    assert device.model == "M" * 256
    assert (device.name, device.intranet_ip, device.connect_time) == ("half ?", "1\x1b[2J", "")


def test_a_problem_can_be_told_whatever_is_wrong() -> None:
    parsed = listed(ENTRY | {"onlySerial": "\ud800"}, "\ud800", {"serial": "\ud800"})
    assert len(parsed.problems) == 3
    assert "; ".join(parsed.problems).encode()


def test_one_phone_under_two_serials_is_told_twice_for_the_caller_to_judge() -> None:
    assert len(listed(ENTRY, ENTRY | {"serial": "R58M12ABCDE"}).devices) == 2


@pytest.mark.parametrize("data", [None, {}, "x", 3, [0] * 5_001], ids=["null", "object", "text", "number", "too many"])
def test_a_list_that_is_none_is_malformed(data: Any) -> None:
    assert isinstance(parse_list(data), Malformed)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["serial", "onlySerial", "mode", "status", "hide", "width"]), inner, max_size=6
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.lists(JSON_VALUES, max_size=5))
def test_each_entry_of_any_list_is_a_phone_or_a_problem(entries: list[Any]) -> None:
    parsed = listed(*entries)
    assert len(parsed.devices) + len(parsed.problems) == len(entries)
    assert all(device.only_serial and device.serial for device in parsed.devices)
