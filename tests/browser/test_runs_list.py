"""The list of runs in a real Chromium."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from tests.support.browser import DemoBackend

from muster.domain.task import TaskState

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
OpenPage = Callable[..., Page]


def test_the_list_works_without_javascript(backend: DemoBackend, open_page: OpenPage) -> None:
    done, queued = backend.runs.add("done", devices=1), backend.runs.add("queued", devices=2)
    backend.runs.move(done, "SIM-0001", TaskState.SUCCEEDED)
    page = open_page(f"{backend.url}/runs", java_script_enabled=False)
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("time").first).to_contain_text("UTC")
    page.locator('.chip[data-s="queued"]').click()
    expect(page).to_have_url(f"{backend.url}/runs?status=queued")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("tbody a").first.click()
    expect(page).to_have_url(f"{backend.url}/runs/{queued}")
    expect(page.locator(".tile")).to_have_count(2)
    page.locator(".tile").last.click()
    expect(page.locator("#phone-id")).to_have_text("SIM-0002")


def test_the_list_refreshes_itself_and_keeps_the_focus(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = open_page(f"{backend.url}/runs")
    expect(page.locator("time").first).not_to_contain_text("UTC")
    page.keyboard.press("ArrowDown")
    expect(page.locator(f'a[href="/runs/{run_id}"]')).to_be_focused()
    backend.runs.move(run_id, "SIM-0001", TaskState.FAILED)
    expect(page.locator("tbody .badge")).to_have_text("Running")
    expect(page.locator(f'a[href="/runs/{run_id}?status=failed"]')).to_have_text("1")
    expect(page.locator(f'a[href="/runs/{run_id}"]')).to_be_focused()
    backend.runs.add("two", devices=1)
    expect(page.locator("tbody tr")).to_have_count(2)


def test_an_empty_list_tells_what_to_do_in_both_languages(backend: DemoBackend, open_page: OpenPage) -> None:
    page = open_page(f"{backend.url}/", locale="ko-KR")
    expect(page.locator(".empty h2")).to_have_text("아직 실행이 없습니다")
    page.get_by_role("link", name="English").click()
    expect(page.locator(".empty h2")).to_have_text("No runs yet")
    expect(page.locator(".empty pre").first).to_contain_text("muster run start")


def test_a_run_that_does_not_exist_is_a_page_with_a_way_out(
    backend: DemoBackend, open_page: OpenPage, complaints: list[str]
) -> None:
    page = open_page(f"{backend.url}/runs/0190d4d2-0000-7000-8000-000000000000")
    expect(page.get_by_role("heading")).to_have_text("There is nothing here")
    page.get_by_role("link", name="Show all runs").click()
    expect(page).to_have_url(re.compile("/runs$"))
    complaints[:] = [text for text in complaints if "404" not in text]
