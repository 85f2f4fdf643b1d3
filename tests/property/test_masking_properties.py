"""No secret passes the mask, in whatever form commands, addresses, JSON, shells and logs have it."""

import html
import io
import json
import re
import shlex
from collections.abc import Callable
from urllib.parse import quote as url_quote
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from muster.agent.executor.words import exit_message, snippet
from muster.recipe.render import Values, render_command
from muster.runtime.logs import configure_logs, get_logger, masked_logs
from muster.runtime.masking import MASK, Mask

SECRETS = st.text(
    st.one_of(st.sampled_from("aB1 '\"\\$%&<>/+é한"), st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"])),
    min_size=4,
    max_size=20,
).filter(lambda text: text.strip() and "*" not in text)
AROUND = st.text(max_size=20)
HEX = re.compile(r"%[0-9A-F]{2}")
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in an adb command": lambda secret: render_command("echo {{secret.S}}", Values({}, {"S": secret}), allow_raw=False),
    "in double quotes": lambda secret: render_command('a "{{secret.S}}"', Values({}, {"S": secret}), allow_raw=False),
    "for input text": lambda secret: secret.replace(" ", "%s"),
    "in an address": lambda secret: url_quote(secret, safe=""),
    "in an address, lower case": lambda secret: HEX.sub(lambda found: found[0].lower(), url_quote(secret, safe="")),
    "in a form": quote_plus,
    "by Python's shlex": lambda secret: shlex.join(["input", "text", secret]),
    "in JSON": json.dumps,
    "in JSON, as it is": lambda secret: json.dumps(secret, ensure_ascii=False),
    "by repr": repr,
    "by repr of bytes": lambda secret: repr(secret.encode()),
    "in XML": html.escape,
    "quoted, in JSON": lambda secret: json.dumps(shlex.quote(secret)),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=examples(50), deadline=None)
@given(secret=SECRETS, others=st.lists(SECRETS, max_size=3), before=AROUND, after=AROUND)
@example(secret="00/{", others=[], before="", after="")
def test_no_form_of_a_secret_passes_the_mask(
    form: str, secret: str, others: list[str], before: str, after: str
) -> None:
    formed = FORMS[form](secret)
    masked = Mask([*others, secret])(f"{before}{formed}{after}")
    assert secret not in masked
    inside = formed.strip("'\"b")
    assert len(inside) < 4 or form == "in double quotes" or inside not in masked


@given(text=st.text(), secrets=st.lists(SECRETS, max_size=3))
def test_what_holds_no_secret_is_left_as_it_is(text: str, secrets: list[str]) -> None:
    masked = Mask(secrets)(text)
    assert masked == text or MASK in masked
    assert Mask([])(text) == text


@given(secret=SECRETS, before=AROUND, kept=st.integers(4, 20))
def test_a_secret_that_is_cut_off_in_the_middle_does_not_show_its_beginning(
    secret: str, before: str, kept: int
) -> None:
    cut = before + secret[:kept]
    hidden = Mask([secret]).cut_off(cut)
    assert not hidden.endswith(secret[:kept]), hidden
    told = snippet(cut.encode(), b"", truncated=True, mask=Mask([secret])) or ""
    assert not told.endswith(secret[:kept].strip()) or len(secret[:kept].strip()) < 4


@given(secret=SECRETS)
@example(secret="000 ")
@example(secret=" 000")
def test_messages_and_snippets_hold_no_secret(secret: str) -> None:
    mask, data = Mask([secret]), f"* {secret}\n{secret}".encode()
    for told in (exit_message(1, data, data, mask), snippet(data, data, truncated=False, mask=mask) or ""):
        assert MASK in told and secret.strip() not in told.replace("adb exit 1:", "").replace("stderr:", "")


@pytest.mark.parametrize("json_lines", [True, False])
@given(secret=SECRETS)
def test_no_log_line_nor_trace_holds_a_secret(json_lines: bool, secret: str) -> None:
    stream = io.StringIO()
    configure_logs(json_lines=json_lines, stream=stream)
    try:
        with masked_logs(Mask([secret])):
            try:
                raise ValueError(secret)
            except ValueError:
                get_logger().error(f"told {secret}", value=secret, inside=[secret], device_id=secret, exc_info=True)
        get_logger().info("after", harmless="yes")
    finally:
        configure_logs()
    line = stream.getvalue()
    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], secret.replace("\\", "\\\\")):
        assert form not in line
    assert MASK in line and "harmless" in line
