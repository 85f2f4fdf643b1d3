"""Passwords of addresses, in a text and in what should have been an address."""

import json
from typing import Final
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.runtime.masking import MASK, check_user_info, hide_passwords, without_user_info

ADDRESSES = {
    "http://muster:hidden@pc-1:8700": "http://muster:***@pc-1:8700",
    "no tool at ws://a:hidden@b: refused, http://c:hidden@d/e": "no tool at ws://a:***@b: refused, http://c:***@d/e",
    "http://hidden-token@pc-1/x": "http://***@pc-1/x",
    "http://a:hid@den:hidden@pc-1": "http://a:***@pc-1",
    "s3://key:hidden@bucket?endpoint=x": "s3://key:***@bucket?endpoint=x",
    "http://pc-1:8700/api/devices/a@b": "http://pc-1:8700/api/devices/a@b",
    "http://pc-1?who=a@b": "http://pc-1?who=a@b",
    "somebody@example.com": "somebody@example.com",
    '{"url":"http://pc-1:8700","mail":"me@x.org"}': '{"url":"http://pc-1:8700","mail":"me@x.org"}',
    "<a>http://pc-1</a><b>me@x.org</b>": "<a>http://pc-1</a><b>me@x.org</b>",
    '{"url":"http://muster:hidden@pc-1","mail":"me@x.org"}': '{"url":"http://muster:***@pc-1","mail":"me@x.org"}',
    json.dumps({"url": "http://mü:hiddén@pc-1"}): '{"url": "http://m\\u00fc:***@pc-1"}',
}
NOT_IN_ANY: Final = '"<>^`{|}'


@pytest.mark.parametrize("sign", NOT_IN_ANY)
def test_a_name_or_a_password_that_would_not_be_found_in_a_text_is_refused_and_not_shown(sign: str) -> None:
    for address in (f"http://muster:hid{sign}den@pc-1", f"http://hid{sign}den@pc-1", f"http://a:b@hid{sign}den@pc-1"):
        with pytest.raises(ValueError, match=r"'http://\*\*\*@pc-1' .* percent-encoded") as refused:
            check_user_info(address)
        assert "hid" not in str(refused.value)
    for address in (f"http://muster:hid{quote(sign)}den@pc-1", f"http://pc-1/{sign}", f"http://pc-1?at=me{sign}@x"):
        check_user_info(address)


@pytest.mark.parametrize("text", ADDRESSES)
def test_the_password_goes_and_the_rest_stays(text: str) -> None:
    assert hide_passwords(text) == ADDRESSES[text]


@given(user=st.text(), password=st.text(min_size=1), around=st.text())
def test_no_password_of_an_address_that_is_taken_is_left(user: str, password: str, around: str) -> None:
    try:
        read = urlsplit(f"http://{user}:{password}@pc-1:8700")
        is_address = read.port == 8700 and read.password == password and not any(map(str.isspace, password + user))
        check_user_info(f"http://{user}:{password}@pc-1:8700")
    except ValueError:
        is_address = False
    if is_address:
        hidden = hide_passwords(f"{around} http://{user}:{password}@pc-1:8700 {around}")
        assert hidden.count(f"{MASK}@pc-1:8700") == 1
        assert urlsplit(hidden.removeprefix(hide_passwords(around)).split()[0]).password == MASK


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http//muster:hidden@pc-1", "http//***@pc-1"),
        ("http://muster:hid/den@pc-1:8700", "http://***@pc-1:8700"),
        ("muster:hidden@pc-1", "***@pc-1"),
        ("http:/pc-1", "http:/pc-1"),
    ],
)
def test_of_what_is_no_address_all_goes_that_may_be_a_password(text: str, shown: str) -> None:
    assert without_user_info(text) == shown
