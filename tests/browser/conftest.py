"""One Chromium for a module; a backend in memory for a test; no error of the console and no breach of the policy."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from tests.support.browser import CHROMIUM_FLAGS, DemoBackend

OpenPage = Callable[..., Page]
_REPORT_BREACHES = """
document.addEventListener("securitypolicyviolation", (breach) =>
    console.error(`policy: ${breach.violatedDirective} ${breach.blockedURI}`));
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        assert not os.environ.get("CI"), "no Chromium: see scripts/chromium.sh"
        pytest.skip("no Chromium: see scripts/chromium.sh")
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def backend() -> Iterator[DemoBackend]:
    backend = DemoBackend()
    backend.start()
    yield backend
    backend.stop()


@pytest.fixture
def complaints() -> list[str]:
    """Errors of the pages' console and breaches of the policy; a test that expects some takes them out."""
    return []


@pytest.fixture
def open_page(chromium: Browser, complaints: list[str]) -> Iterator[OpenPage]:
    """Opens an address in a context of its own; `options` are those of `Browser.new_context`."""
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_at(url: str, **options: Any) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, "locale": "en-US"} | options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(_REPORT_BREACHES)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url, wait_until="load")
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []
