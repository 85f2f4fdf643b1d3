"""The Run Monitor in a real Chromium, over a backend in memory that the test drives."""

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from tests.support.browser import DemoBackend

from muster.contracts.api import NodeView
from muster.contracts.events import NodeTrouble
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
OpenPage = Callable[..., Page]
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def tile(page: Page, device_id: str) -> Locator:
    return page.locator(".tile", has_text=device_id)


def chip(page: Page, state: str) -> Locator:
    return page.locator(f'#chips [data-s="{state}"]')


def live(page: Page) -> Page:
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    return page


def until(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_tiles_chips_and_progress_follow_the_run_live(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=6)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    expect(page.locator("#run-badge")).to_have_text("Queued")
    backend.move(run_id, "SIM-0001", TaskState.RUNNING, step_index=3, step_id="login")
    expect(tile(page, "SIM-0001")).to_have_text("SIM-0001 Running 4/8 login")
    expect(page.locator("#run-badge")).to_have_text("Running")
    backend.move(run_id, "SIM-0002", TaskState.SUCCEEDED)
    backend.move(run_id, "SIM-0003", TaskState.FAILED, failure_reason=FailureReason.STEP_TIMEOUT)
    backend.move(run_id, "SIM-0004", TaskState.SKIPPED_OFFLINE)
    backend.move(run_id, "SIM-0005", TaskState.CANCELLED)
    for device_id, text in {"2": "Succeeded", "3": "Failed", "4": "SKIPPED(offline)", "5": "Cancelled"}.items():
        expect(tile(page, f"SIM-000{device_id}")).to_contain_text(text)
    expect(tile(page, "SIM-0003")).to_contain_text("step_timeout")  # it came to no step: why
    expect(chip(page, "failed").locator("b")).to_have_text("1")
    expect(page.locator("#finished")).to_have_text("4")
    expect(page.locator(".node h2 .of")).to_have_text("4 / 6")
    expect(page).to_have_title(re.compile("^4/6 "))
    expect(page.locator("#summary")).to_have_text("0 of 6 finished, 0 failed, 0 waiting")  # throttled to 10 s


def test_a_waiting_phone_counts_down_and_becomes_an_error_by_an_event_alone(
    backend: DemoBackend, open_page: OpenPage
) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    for wait_ms, shown in ((3_000_000, r"WAIT 50m"), (90_000, r"WAIT \d\ds"), (1_200, r"WAIT \ds")):
        backend.move(run_id, "SIM-0001", TaskState.WAITING, wait_until=backend.runs.clock.now_ms() + wait_ms)
        expect(tile(page, "SIM-0001")).to_contain_text(re.compile(shown))
    expect(tile(page, "SIM-0001")).to_contain_text("WAIT 0s")
    expect(tile(page, "SIM-0001")).to_have_attribute("data-s", "waiting")
    backend.move(run_id, "SIM-0001", TaskState.FAILED, failure_reason=FailureReason.DEVICE_UNRESPONSIVE)
    expect(tile(page, "SIM-0001")).to_have_attribute("data-s", "failed")
    assert tile(page, "SIM-0001").evaluate("(element) => getComputedStyle(element).borderTopWidth") == "2px"


def test_a_waiting_phone_says_why_it_waits(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}?sel=SIM-0001"))
    backend.move(
        run_id, "SIM-0001", TaskState.WAITING, failure_reason=FailureReason.ADB_OFFLINE, error_message="no answer"
    )
    expect(page.locator('[data-f="reason"]')).to_have_text("Waiting for the phone: adb sees it as offline")
    expect(page.locator('[data-f="error"]')).to_have_text("no answer")
    expect(tile(page, "SIM-0001")).to_contain_text("adb_offline")
    backend.move(run_id, "SIM-0001", TaskState.RUNNING, failure_reason=None, error_message=None)
    expect(page.locator('[data-f="trouble"]')).to_be_hidden()


def test_a_node_in_trouble_says_so_above_its_phones_until_it_is_well_or_they_have_ended(
    backend: DemoBackend, open_page: OpenPage
) -> None:
    run_id = backend.runs.add("ill", devices=4, nodes=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    condition = page.locator('[data-node="PC-01"] .condition')
    expect(condition).to_be_hidden()
    gone = NodeTrouble(reason="adb_gone", message="the adb server does not answer", stops_work=True)
    ill = NodeView(node_id="PC-01", status="degraded", troubles=[gone])
    backend.tell_node(run_id, ill)
    expect(condition).to_contain_text("Degraded No adb server answers: no phone can work")
    expect(page.locator('[data-node="PC-02"] .condition')).to_be_hidden()
    backend.tell_node(run_id, NodeView(node_id="PC-01", status="online"))
    expect(condition).to_be_hidden()
    backend.tell_node(run_id, NodeView(node_id="PC-01", status="offline", last_heartbeat_at=1_800_000_000_000))
    expect(condition).to_contain_text("Silent Last heartbeat: Jan 15, 2027")
    for task in backend.runs.tasks(run_id):
        backend.move(run_id, task.device_id, TaskState.SUCCEEDED)
    expect(condition).to_be_hidden()


def test_a_phone_of_a_silent_node_looks_unreachable_and_heals(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("silent", devices=3)
    page = live(open_page(f"{backend.url}/runs/{run_id}?sel=SIM-0002"))
    backend.move(run_id, "SIM-0002", TaskState.RUNNING, unreachable=True)
    expect(tile(page, "SIM-0002")).to_contain_text("Unreachable")
    expect(tile(page, "SIM-0002")).to_have_css("filter", "grayscale(1)")
    expect(page.locator("#phone .badge")).to_have_text("Unreachable")
    page.locator("#stop").click()
    told = page.locator("#stop-touches li:visible")
    expect(told).to_have_text([re.compile("^2 queued"), re.compile("^1 on a node that does not answer")])
    page.keyboard.press("Escape")
    expect(page.locator("#stop-ask")).to_be_hidden()
    expect(page.locator("#phone")).to_be_visible()  # the dialog had the key for itself
    backend.move(run_id, "SIM-0002", TaskState.RUNNING, unreachable=False)
    page.locator("#stop").click()
    expect(told).to_have_text([re.compile("^2 queued"), re.compile("^1 at work")])
    page.keyboard.press("Escape")
    expect(tile(page, "SIM-0002")).to_contain_text("Running")
    expect(tile(page, "SIM-0002")).to_have_css("filter", "none")
    expect(page.locator("#phone .badge")).to_have_text("Running")


def test_a_change_touches_its_own_tile_and_moves_none(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=300, nodes=3)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    places = "() => [...document.querySelectorAll('.tile')].map((e) => e.dataset.id + e.getBoundingClientRect().x)"
    before = page.evaluate(places)
    page.evaluate(
        """() => {
            window.touched = new Set();
            new MutationObserver((records) => records.forEach(({ target }) =>
                touched.add((target.closest ?? target.parentElement.closest).call(
                    target.closest ? target : target.parentElement, ".tile")?.dataset.id)))
            .observe(document.getElementById("wall"),
                     { subtree: true, childList: true, attributes: true, characterData: true });
        }"""
    )
    backend.touch(run_id, [f"SIM-{n:04d}" for n in range(1, 200)])
    backend.move(run_id, "SIM-0150", TaskState.RUNNING)
    expect(tile(page, "SIM-0150")).to_have_attribute("data-s", "running")
    expect(chip(page, "running").locator("b")).to_have_text("1")
    touched = [task_id for task_id in page.evaluate("() => [...touched]") if task_id]
    assert touched == [backend.runs.task(run_id, "SIM-0150").task_id]
    assert page.evaluate(places) == before


def test_filter_search_and_selection_survive_a_reload(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=6)
    backend.runs.move(run_id, "SIM-0002", TaskState.FAILED)
    backend.runs.move(run_id, "SIM-0003", TaskState.FAILED)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    chip(page, "failed").click()
    page.locator("#search").fill("0003")
    tile(page, "SIM-0003").click()
    expect(page).to_have_url(f"{backend.url}/runs/{run_id}?status=failed&q=0003&sel=SIM-0003")
    for _ in range(2):
        expect(page.locator(".tile:not(.off)")).to_have_text([re.compile("SIM-0003")])
        expect(chip(page, "failed")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#phone-id")).to_have_text("SIM-0003")
        expect(page.locator("#search")).to_have_value("0003")
        page.reload(wait_until="load")
    page.locator("#search").fill("nothing like it")
    page.get_by_role("link", name="Clear the filter").click()
    expect(page.locator(".tile:not(.off)")).to_have_count(6)


def test_a_filter_follows_the_phones_as_they_change(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=3)
    page = live(open_page(f"{backend.url}/runs/{run_id}?status=failed"))
    expect(page.locator("#none")).to_be_visible()
    backend.move(run_id, "SIM-0002", TaskState.FAILED)
    expect(page.locator(".tile:visible")).to_have_text([re.compile("SIM-0002")])
    expect(page.locator("#none")).to_be_hidden()


def failed_phone(backend: DemoBackend, run_id: str) -> None:
    for index in range(3):
        backend.runs.add_step(
            run_id, "SIM-0001", index, StepState.COMPLETED, duration_ms=1_230, log_snippet=f"line of step {index}"
        )
    log = "\n".join(f"waiting {n}" for n in range(60))
    backend.runs.add_step(
        run_id, "SIM-0001", 3, StepState.FAILED, duration_ms=30_000, error_message="no form", log_snippet=log
    )
    backend.runs.move(
        run_id,
        "SIM-0001",
        TaskState.FAILED,
        step_index=3,
        step_id="login",
        failure_reason=FailureReason.LOGIN_FLOW_TIMEOUT,
        error_message="sign-in form did not close",
    )


def test_a_failed_phone_opens_at_its_failing_step_with_the_tail(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=2)
    failed_phone(backend, run_id)
    backend.runs.add_screenshot(run_id, "SIM-0001")
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    tile(page, "SIM-0001").click()
    side = page.locator("#phone")
    expect(side.locator('[data-f="reason"]')).to_have_text("Signing in took too long")
    expect(side.locator('[data-f="error"]')).to_have_text("sign-in form did not close")
    expect(side.locator('[data-f="class"]')).to_have_text("Look at the phone")
    expect(side.locator(".steps li")).to_have_count(5)
    expect(side.locator('.steps li[data-s="failed"]')).to_contain_text("30 s")
    expect(side.locator('.steps li[data-s="succeeded"]').first).to_contain_text("1.2 s")
    expect(side.locator('.steps li[data-s="failed"]')).to_be_in_viewport()
    expect(side.locator("pre")).to_contain_text("waiting 59")
    scrolled = side.locator("pre").evaluate("(box) => box.scrollHeight - box.scrollTop - box.clientHeight")
    assert scrolled < 10
    image = side.locator(".shot img")
    expect(image).to_have_attribute("alt", "Last screenshot of SIM-0001")
    until(lambda: image.evaluate("(element) => element.naturalWidth") == 270, "the screenshot does not load")


def test_a_phone_that_came_to_no_step_says_why_and_promises_nothing(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}?sel=SIM-0001"))
    side = page.locator("#phone")
    expect(side.locator(".steps li")).to_have_text("No step has reported yet.")
    refused = {"failure_reason": FailureReason.BATTERY_LOW, "error_message": "the battery is at 9 %: charge it"}
    backend.move(run_id, "SIM-0001", TaskState.FAILED, ended_at=backend.runs.clock.now_ms(), **refused)
    expect(tile(page, "SIM-0001")).to_have_text("SIM-0001 Failed battery_low")
    expect(side.locator('[data-f="error"]')).to_have_text("the battery is at 9 %: charge it")
    expect(side.locator(".steps li")).to_have_text("It came to no step.")
    expect(side.locator(".shot")).to_have_text("No screenshot")


def test_the_chosen_phone_stays_while_the_wall_changes_around_it(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=4)
    page = live(open_page(f"{backend.url}/runs/{run_id}?sel=SIM-0002&status=queued"))
    backend.move(run_id, "SIM-0002", TaskState.RUNNING, step_index=0, step_id="wake")
    expect(page.locator('#phone [data-f="badge"]')).to_have_text("Running")
    expect(tile(page, "SIM-0002")).to_be_hidden()
    expect(page.locator("#phone-id")).to_have_text("SIM-0002")
    backend.runs.add_step(run_id, "SIM-0002", 0, StepState.COMPLETED, duration_ms=10)
    backend.touch(run_id, ["SIM-0002"])
    expect(page.locator("#phone .steps li")).to_contain_text("wake")


def test_scrolling_up_pauses_the_output_and_the_bottom_resumes_it(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=1)

    def write(lines: int) -> None:
        text = "\n".join(f"line {n}" for n in range(lines))
        backend.runs.add_step(run_id, "SIM-0001", 0, StepState.RUNNING, log_snippet=text)
        backend.move(run_id, "SIM-0001", TaskState.RUNNING, step_index=0, step_id="wake")

    write(50)
    page = live(open_page(f"{backend.url}/runs/{run_id}?sel=SIM-0001"))
    box, button = page.locator("#phone pre"), page.locator('[data-f="follow"]')
    expect(button).to_be_visible()
    expect(button).to_have_text("Following")
    box.evaluate("(box) => { box.scrollTop = 0; }")
    write(92)  # perhaps before the page has been told of the scrolling: the reader must not be pulled down
    expect(button).to_have_text("Paused (42 new)")
    assert box.evaluate("(box) => box.scrollTop") == 0
    box.evaluate("(box) => { box.scrollTop = box.scrollHeight; }")
    expect(button).to_have_text("Following")


def test_the_wall_is_one_tab_stop_and_arrows_move_in_it(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=20)
    backend.runs.move(run_id, "SIM-0005", TaskState.FAILED)
    backend.runs.move(run_id, "SIM-0012", TaskState.FAILED)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    assert page.locator('.tile[tabindex="0"]').count() == 1
    page.keyboard.press("ArrowDown")
    expect(tile(page, "SIM-0001")).to_be_focused()
    for key, device_id in [
        ("ArrowRight", 2),
        ("ArrowDown", 8),
        ("ArrowUp", 2),
        ("ArrowLeft", 1),
        ("End", 20),
        ("Home", 1),
    ]:
        page.keyboard.press(key)
        expect(tile(page, f"SIM-{device_id:04d}")).to_be_focused()
    backend.move(run_id, "SIM-0001", TaskState.RUNNING)
    expect(tile(page, "SIM-0001")).to_have_attribute("data-s", "running")
    expect(tile(page, "SIM-0001")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#phone-id")).to_have_text("SIM-0001")
    for key, device_id in [("f", 5), ("f", 12), ("f", 5), ("F", 12)]:
        page.keyboard.press(key)
        expect(page.locator("#phone-id")).to_have_text(f"SIM-{device_id:04d}")
    page.keyboard.press("Escape")
    expect(page.locator("#phone")).to_be_hidden()


def test_keys_navigate_and_can_be_turned_off(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=3)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("g?r")
    expect(page.locator("#search")).to_have_value("g?r")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.get_by_label("Single-key shortcuts are on").uncheck()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.reload(wait_until="load")
    page.keyboard.press("/")
    expect(page.locator("#search")).not_to_be_focused()
    page.get_by_title("Keyboard shortcuts").click()
    page.get_by_label("Single-key shortcuts are on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page).to_have_url(f"{backend.url}/runs")


def test_stale_data_looks_stale_and_heals_when_the_backend_is_back(
    backend: DemoBackend, open_page: OpenPage, complaints: list[str]
) -> None:
    run_id = backend.runs.add("one", devices=3)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    backend.stop()
    banner = page.locator("#stale")
    expect(banner).to_contain_text("What you see may be out of date")
    expect(banner).to_contain_text("No news for 2 s")
    assert "grayscale" in page.locator(".wall").evaluate("(element) => getComputedStyle(element).filter")
    backend.runs.move(run_id, "SIM-0002", TaskState.FAILED)  # while nobody could tell the page
    backend.start()
    expect(banner).to_be_hidden()
    expect(tile(page, "SIM-0002")).to_have_attribute("data-s", "failed")
    live(page)
    backend.move(run_id, "SIM-0003", TaskState.RUNNING)
    expect(tile(page, "SIM-0003")).to_have_attribute("data-s", "running")
    complaints[:] = [text for text in complaints if "net::ERR_" not in text]


def test_a_503_from_a_proxy_does_not_end_the_stream_for_good(
    backend: DemoBackend, open_page: OpenPage, complaints: list[str]
) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    answers = iter([502, 503])

    def refuse(route: Route) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, body="busy")

    page.route("**/events**", refuse)
    backend.stop()
    backend.start()
    expect(page.locator("#stale")).to_be_visible()
    live(page)
    assert next(answers, None) is None, "the page did not meet both refusals"
    backend.move(run_id, "SIM-0001", TaskState.RUNNING)
    expect(tile(page, "SIM-0001")).to_have_attribute("data-s", "running")
    complaints[:] = [text for text in complaints if "net::ERR_" not in text and "50" not in text]


def test_a_hidden_tab_closes_its_stream_and_catches_up_when_it_is_shown(
    backend: DemoBackend, open_page: OpenPage
) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    assert backend.viewers() == 1
    page.evaluate(HIDE, True)
    until(lambda: backend.viewers() == 0, "the hidden tab still holds its stream")
    backend.move(run_id, "SIM-0001", TaskState.FAILED)
    page.evaluate(HIDE, False)
    expect(tile(page, "SIM-0001")).to_have_attribute("data-s", "failed")
    assert backend.viewers() == 1
    expect(page.locator("#stale")).to_be_hidden()


def test_the_end_of_the_run_is_told_at_once_and_the_page_stays_live(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=2)
    page = live(open_page(f"{backend.url}/runs/{run_id}"))
    backend.move(run_id, "SIM-0001", TaskState.SUCCEEDED)
    backend.move(run_id, "SIM-0002", TaskState.FAILED)
    expect(page.locator("#summary")).to_have_text("The run has ended: 1 of 2 succeeded, 1 failed")
    expect(page.locator("#run-badge")).to_have_text("Completed with errors")
    live(page)


def test_the_page_speaks_korean_and_can_be_switched(backend: DemoBackend, open_page: OpenPage) -> None:
    run_id = backend.runs.add("one", devices=3)
    backend.runs.move(run_id, "SIM-0001", TaskState.FAILED, failure_reason=FailureReason.LOGIN_FLOW_TIMEOUT)
    page = live(open_page(f"{backend.url}/runs/{run_id}?sel=SIM-0001", locale="ko-KR"))
    expect(page.locator('[data-f="reason"]')).to_have_text("로그인이 제한 시간을 넘겼습니다")
    expect(chip(page, "failed")).to_contain_text("실패")
    expect(page.locator("#connection")).to_have_text("실시간")
    backend.move(run_id, "SIM-0002", TaskState.SKIPPED_OFFLINE)
    backend.move(run_id, "SIM-0003", TaskState.SUCCEEDED)
    expect(tile(page, "SIM-0002")).to_contain_text("SKIPPED(offline)")
    expect(tile(page, "SIM-0003")).to_contain_text("성공")
    page.get_by_role("link", name="English").click()
    expect(page).to_have_url(f"{backend.url}/runs/{run_id}?sel=SIM-0001")
    expect(page.locator('[data-f="reason"]')).to_have_text("Signing in took too long")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_reads_well_on_a_phone(backend: DemoBackend, open_page: OpenPage, scheme: str) -> None:
    run_id = backend.runs.add("one", devices=20)
    page = open_page(f"{backend.url}/runs/{run_id}", viewport={"width": 390, "height": 780}, color_scheme=scheme)
    live(page)
    widths = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], "the page scrolls sideways"
    tile(page, "SIM-0004").click()
    expect(page.locator("#phone-id")).to_be_in_viewport()
    expect(page.locator("#phone-close")).to_be_in_viewport()
