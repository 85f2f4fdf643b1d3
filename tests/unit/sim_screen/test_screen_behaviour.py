"""What taps, keys, text, intents, time and faults do to a screen."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.screens import (
    BACK,
    DELETE,
    ENTER,
    HOME,
    MENU,
    RECENTS,
    STATES,
    TAB,
    VIDEO,
    find,
    new_screen,
    nodes_of,
    tap,
    texts,
)

from muster.sim.screen import Screen, SignInPolicy

SMALL = (360, 800, 160)
LAUNCHER, SIGN_IN, SIGNED_IN = (
    "com.android.launcher3/.Launcher",
    "com.example.app/.SignInActivity",
    "com.example.app/.HomeActivity",
)


@pytest.fixture
def screen() -> Screen:
    return new_screen(size=SMALL)


def sign_in(screen: Screen, password: str = "muster-demo") -> None:
    assert screen.start("android.intent.action.MAIN", "com.example.app", None, None)
    screen.text("demo")
    screen.key(TAB)
    screen.text(password)
    screen.key(ENTER)


class TestSignIn:
    def test_the_right_password_leads_home_with_the_account_s_name(self, screen: Screen) -> None:
        sign_in(screen)
        assert screen.current_focus() == SIGNED_IN
        assert find(screen, "account_name").text == "demo"

    def test_the_wrong_password_is_told_and_can_be_mended(self, screen: Screen) -> None:
        sign_in(screen, "muster-dem")
        assert (screen.current_focus(), find(screen, "error").text) == (SIGN_IN, "Wrong password. Try again.")
        screen.text("o")
        screen.key(ENTER)
        assert screen.current_focus() == SIGNED_IN

    def test_by_taps_alone(self, screen: Screen) -> None:
        tap(screen, "Example")
        tap(screen, "password")
        screen.text("muster-demo")
        tap(screen, "account")
        screen.text("demo")
        tap(screen, "sign_in")
        assert screen.current_focus() == SIGNED_IN

    def test_an_empty_form_is_refused(self, screen: Screen) -> None:
        tap(screen, "Example")
        tap(screen, "sign_in")
        assert find(screen, "error").text == "Enter account and password."

    def test_a_password_is_never_told(self, screen: Screen) -> None:
        sign_in(screen, "secret")
        assert "secret" not in screen.dump()
        assert (find(screen, "password").text, find(screen, "password").password) == ("••••••", True)

    def test_a_slow_answer_comes_when_its_time_has_come(self, screen: Screen) -> None:
        screen.advance(100.0)
        screen.set_sign_in(SignInPolicy(delay_sec=5.0))
        sign_in(screen)
        assert find(screen, "progress").text == "Signing in…"
        assert not find(screen, "sign_in").clickable
        screen.advance(104.9)
        assert screen.current_focus() == SIGN_IN
        screen.advance(105.0)
        assert screen.current_focus() == SIGNED_IN

    def test_nothing_is_typed_while_the_answer_is_awaited(self, screen: Screen) -> None:
        screen.set_sign_in(SignInPolicy(delay_sec=float("inf")))
        sign_in(screen)
        before = screen.dump()
        screen.text("more")
        screen.advance(1e12)
        assert screen.dump() == before

    def test_it_can_always_fail(self, screen: Screen) -> None:
        screen.set_sign_in(SignInPolicy(always_fails=True))
        sign_in(screen)
        assert find(screen, "error").text == "Could not sign in. Try again later."

    def test_the_session_outlives_a_force_stop_but_not_clear(self, screen: Screen) -> None:
        sign_in(screen)
        screen.force_stop("com.example.app")
        assert screen.current_focus() == LAUNCHER
        screen.start(None, "com.example.app", None, None)
        assert screen.current_focus() == SIGNED_IN
        assert screen.clear_data("com.example.app")
        screen.start(None, "com.example.app", None, None)
        assert screen.current_focus() == SIGN_IN
        assert find(screen, "account").text == "Account"

    def test_a_force_stop_ends_a_sign_in_under_way(self, screen: Screen) -> None:
        screen.set_sign_in(SignInPolicy(delay_sec=5.0))
        sign_in(screen)
        screen.force_stop("com.example.app")
        screen.advance(10.0)
        screen.start(None, "com.example.app", None, None)
        assert screen.current_focus() == SIGN_IN

    def test_signing_out_closes_every_page(self, screen: Screen) -> None:
        sign_in(screen)
        tap(screen, "sign_out")
        assert screen.current_focus() == SIGN_IN
        screen.key(BACK)
        assert screen.current_focus() == LAUNCHER

    def test_pages_behind_the_form_cannot_be_started_from_outside(self, screen: Screen) -> None:
        assert screen.start(None, None, "com.example.app/.SettingsActivity", None)
        assert screen.current_focus() == SIGN_IN


class TestIntents:
    @pytest.mark.parametrize(
        ("action", "package", "component", "data", "focus"),
        [
            ("android.intent.action.MAIN", None, None, None, LAUNCHER),
            ("android.intent.action.MAIN", "com.example.app", None, None, SIGN_IN),
            (None, None, "com.example.app/.SignInActivity", None, SIGN_IN),
            (None, None, "com.example.app/com.example.app.SignInActivity", None, SIGN_IN),
            ("android.settings.SETTINGS", None, None, None, "com.android.settings/.Settings"),
            ("android.settings.WIFI_SETTINGS", None, None, None, "com.android.settings/.SubSettings"),
            ("android.intent.action.VIEW", None, None, VIDEO, "com.google.android.youtube/.WatchWhileActivity"),
            ("android.intent.action.VIEW", None, None, "https://a.b/", "com.android.chrome/.Main"),
            (None, None, None, VIDEO, "com.google.android.youtube/.WatchWhileActivity"),
        ],
    )
    def test_they_resolve(
        self,
        screen: Screen,
        action: str | None,
        package: str | None,
        component: str | None,
        data: str | None,
        focus: str,
    ) -> None:
        assert screen.start(action, package, component, data)
        assert screen.current_focus() == focus

    @pytest.mark.parametrize(
        ("action", "package", "component", "data"),
        [
            ("android.intent.action.MAIN", "com.nowhere", None, None),
            (None, None, "com.nowhere/.Main", None),
            (None, None, "com.example.app/.Nowhere", None),
            (None, None, "com.google.android.youtube/.WatchWhileActivity", None),
            ("android.intent.action.VIEW", None, None, "mailto:a@b"),
            ("android.intent.action.VIEW", "com.example.app", None, VIDEO),
            ("android.intent.action.VIEW", None, None, None),
            ("android.settings.NO_SUCH_SETTINGS", None, None, None),
            ("android.intent.action.SEND", None, None, None),
        ],
    )
    def test_what_nothing_resolves_changes_nothing(
        self, screen: Screen, action: str | None, package: str | None, component: str | None, data: str | None
    ) -> None:
        before = screen.dump()
        assert not screen.start(action, package, component, data)
        assert screen.dump() == before

    @pytest.mark.parametrize(
        ("url", "video"),
        [
            (VIDEO, "dQw4w9WgXcQ"),
            ("https://youtu.be/a_b-C1?si=x", "a_b-C1"),
            ("https://m.youtube.com/watch?app=m&v=xyz", "xyz"),
            ("https://other.example/play?v=xyz", "xyz"),
            ("https://www.youtube.com/shorts/abc", "abc"),
            ("vnd.youtube:abc", "abc"),
            ("vnd.youtube://abc", "abc"),
        ],
    )
    def test_the_video_page_tells_the_id_in_every_form_of_a_link(self, screen: Screen, url: str, video: str) -> None:
        assert screen.start("android.intent.action.VIEW", None, None, url)
        assert find(screen, "video_id").text == video

    @given(st.text())
    def test_no_link_breaks_it(self, url: str) -> None:
        screen = new_screen(size=SMALL)
        screen.start("android.intent.action.VIEW", None, None, url)
        ET.fromstring(screen.dump())


class TestMovingAbout:
    def test_back_goes_page_by_page_and_then_home(self, screen: Screen) -> None:
        screen.start("android.settings.SETTINGS", None, None, None)
        tap(screen, "Display")
        screen.key(BACK)
        assert screen.current_focus() == "com.android.settings/.Settings"
        screen.key(BACK)
        assert screen.current_focus() == LAUNCHER

    def test_up_from_a_page_opened_from_elsewhere_leads_to_the_app_s_main_page(self, screen: Screen) -> None:
        screen.start("android.settings.DISPLAY_SETTINGS", None, None, None)
        up = next(node for node in nodes_of(screen.dump()) if node.description == "Navigate up")
        screen.tap(*up.centre)
        assert screen.current_focus() == "com.android.settings/.Settings"

    def test_recents_show_the_latest_first_and_can_be_cleared(self, screen: Screen) -> None:
        STATES["recents"](screen)
        rows = [text for text in texts(screen) if text in {"Example", "Video"}]
        assert rows == ["Example", "Video"]
        tap(screen, "Video")
        assert screen.current_focus() == "com.google.android.youtube/.WatchWhileActivity"
        screen.key(RECENTS)
        tap(screen, "clear_all")
        screen.key(RECENTS)
        assert find(screen, "empty").text == "No recent apps"

    def test_a_long_list_scrolls_and_stops_at_its_ends(self, screen: Screen) -> None:
        screen.resize(360, 480, 160)
        screen.start("android.settings.SETTINGS", None, None, None)
        assert find(screen, "content").scrollable
        top = screen.dump()
        for _ in range(5):
            screen.swipe(180, 400, 180, 100)
        assert "About phone" in texts(screen)
        tap(screen, "About phone")
        assert "Device name" in texts(screen)
        screen.key(BACK)
        for _ in range(5):
            screen.swipe(180, 100, 180, 400)
        assert screen.dump() == top

    def test_the_focus_is_scrolled_into_sight(self, screen: Screen) -> None:
        screen.resize(360, 480, 160)
        screen.start("android.settings.SETTINGS", None, None, None)
        for _ in range(9):
            screen.key(TAB)
        assert any(node.focused and node.resource_id.endswith("/about") for node in nodes_of(screen.dump()))
        screen.key(ENTER)
        assert "Device name" in texts(screen)

    def test_a_swipe_up_from_the_bottom_edge_goes_home(self, screen: Screen) -> None:
        STATES["video"](screen)
        screen.swipe(180, 795, 180, 300)
        assert screen.current_focus() == LAUNCHER

    def test_a_swipe_in_from_the_side_goes_back(self, screen: Screen) -> None:
        STATES["video"](screen)
        screen.swipe(2, 400, 200, 400)
        assert screen.current_focus() == LAUNCHER

    def test_packages_can_come_and_go(self, screen: Screen) -> None:
        assert screen.install("com.example.notes")
        assert not screen.install("com.example.notes")
        assert screen.packages()["com.example.notes"] == "com.example.notes/.MainActivity"
        tap(screen, "Notes")
        tap(screen, "tap")
        assert find(screen, "taps").text == "1"
        assert screen.uninstall("com.example.notes")
        assert screen.current_focus() == LAUNCHER
        assert "Notes" not in texts(screen)
        assert not screen.uninstall("com.android.settings")
        assert not screen.uninstall("com.android.launcher3")

    def test_a_shipped_app_comes_back_signed_out_when_it_is_installed_again(self, screen: Screen) -> None:
        sign_in(screen)
        assert screen.uninstall("com.example.app")
        assert not screen.start(None, "com.example.app", None, None)
        assert screen.install("com.example.app")
        sign_in(screen, "guess")
        assert find(screen, "error").text == "Wrong password. Try again."

    def test_a_video_link_opens_in_the_browser_once_its_app_is_gone(self, screen: Screen) -> None:
        assert screen.uninstall("com.google.android.youtube")
        assert screen.start("android.intent.action.VIEW", None, None, VIDEO)
        assert screen.current_focus() == "com.android.chrome/.Main"


class TestText:
    def test_without_a_focused_field_it_goes_nowhere(self, screen: Screen) -> None:
        before = screen.dump()
        screen.text("hello")
        assert screen.dump() == before

    def test_delete_takes_the_last_letter(self, screen: Screen) -> None:
        tap(screen, "Example")
        screen.text("demo")
        screen.key(DELETE)
        assert find(screen, "account").text == "dem"

    @settings(deadline=None)
    @given(st.text(max_size=600))
    def test_whatever_is_typed_is_told_again_by_a_well_formed_dump(self, value: str) -> None:
        screen = new_screen(size=SMALL)
        tap(screen, "Example")
        screen.text(value)
        shown = find(screen, "account").text
        assert shown == ("".join(char for char in value if char.isprintable())[:500] or "Account")


class TestSleepAndLock:
    def test_asleep_the_picture_is_black_and_touch_does_nothing(self, screen: Screen) -> None:
        screen.key(26)
        assert not screen.is_awake
        screen.tap(180, 400)
        screen.swipe(180, 700, 180, 100)
        screen.text("x")
        screen.key(HOME)
        assert not screen.is_awake
        assert texts(screen) == []

    @pytest.mark.parametrize("how", ["menu", "swipe", "dismiss"])
    def test_it_wakes_locked_and_is_unlocked_to_where_it_was(self, screen: Screen, how: str) -> None:
        STATES["video"](screen)
        screen.sleep()
        screen.key(224)
        assert (screen.is_awake, screen.current_focus()) == (True, "NotificationShade")
        if how == "menu":
            screen.key(MENU)
        elif how == "swipe":
            screen.swipe(180, 700, 180, 300)
        else:
            screen.unlock()
        assert screen.current_focus() == "com.google.android.youtube/.WatchWhileActivity"

    def test_a_short_swipe_does_not_unlock(self, screen: Screen) -> None:
        STATES["locked"](screen)
        screen.swipe(180, 700, 180, 650)
        screen.tap(180, 400)
        assert screen.current_focus() == "NotificationShade"

    def test_waking_an_awake_phone_does_not_lock_it(self, screen: Screen) -> None:
        screen.key(224)
        assert screen.current_focus() == LAUNCHER


class TestFaults:
    def test_a_dialog_takes_the_focus_and_shields_what_is_beneath(self, screen: Screen) -> None:
        tap(screen, "Example")
        behind = find(screen, "sign_in").centre
        screen.show_dialog("permission")
        assert "permissioncontroller" in screen.current_focus()
        assert "Sign in" not in texts(screen)
        screen.tap(*behind)
        screen.text("x")
        tap(screen, "Allow")
        assert (screen.current_focus(), find(screen, "account").text) == (SIGN_IN, "Account")

    @pytest.mark.parametrize(
        ("kind", "button", "focus"),
        [
            ("update", "Not now", SIGN_IN),
            ("update", "Update", SIGN_IN),
            ("permission", "Don't allow", SIGN_IN),
            ("low_battery", "Got it", SIGN_IN),
            ("low_battery", "Battery saver", "com.android.settings/.SubSettings"),
            ("anr", "Wait", SIGN_IN),
            ("anr", "Close app", LAUNCHER),
            ("crash", "App info", "com.android.settings/.SubSettings"),
        ],
    )
    def test_each_button_leads_where_it_says(self, screen: Screen, kind: str, button: str, focus: str) -> None:
        tap(screen, "Example")
        screen.show_dialog(kind)
        tap(screen, button)
        assert screen.current_focus() == focus

    @pytest.mark.parametrize(
        ("kind", "closes"), [("update", True), ("low_battery", True), ("permission", False), ("anr", False)]
    )
    def test_back_closes_only_what_may_be_passed_over(self, screen: Screen, kind: str, closes: bool) -> None:
        screen.show_dialog(kind)
        screen.key(BACK)
        assert (screen.current_focus() == LAUNCHER) is closes

    def test_dialogs_lie_on_each_other_once_each(self, screen: Screen) -> None:
        for kind in ("update", "low_battery", "update"):
            screen.show_dialog(kind)
        tap(screen, "Not now")
        tap(screen, "Got it")
        assert screen.current_focus() == LAUNCHER

    def test_an_unknown_dialog_is_a_mistake(self, screen: Screen) -> None:
        with pytest.raises(ValueError, match="surprise"):
            screen.show_dialog("surprise")

    def test_a_crash_ends_the_app_and_says_so(self, screen: Screen) -> None:
        tap(screen, "Example")
        screen.crash("com.example.app")
        assert "Example keeps stopping" in texts(screen)
        tap(screen, "Close app")
        assert screen.current_focus() == LAUNCHER

    def test_an_app_can_crash_at_one_button(self, screen: Screen) -> None:
        screen.crash_at("com.example.app:id/sign_in")
        sign_in(screen)
        assert screen.current_focus() == "Application Error: com.example.app"
        screen.crash_at(None)
        tap(screen, "Close app")
        sign_in(screen)
        assert screen.current_focus() == SIGNED_IN


class TestSizes:
    def test_they_are_clamped_as_the_window_manager_does(self, screen: Screen) -> None:
        screen.resize(10, 100_000, 5)
        assert screen.size == (200, 2400, 72)

    def test_a_page_is_laid_out_anew(self, screen: Screen) -> None:
        tap(screen, "Example")
        before = find(screen, "sign_in").bounds
        screen.resize(720, 1280, 320)
        assert find(screen, "sign_in").bounds != before
        screen.tap(*find(screen, "sign_in").centre)
        assert find(screen, "error").text


_POINTS = st.tuples(st.integers(0, 400), st.integers(0, 900))
_STEPS = st.one_of(
    st.tuples(st.just("tap"), _POINTS),
    st.tuples(st.just("swipe"), _POINTS, _POINTS),
    st.tuples(st.just("key"), st.sampled_from([3, 4, 19, 20, 23, 26, 61, 66, 67, 82, 187, 223, 224, 999])),
    st.tuples(st.just("text"), st.sampled_from(["demo", "muster-demo", "x y"])),
    st.tuples(st.just("resize"), st.tuples(st.integers(1, 900), st.integers(1, 900), st.integers(1, 900))),
    st.tuples(st.just("dialog"), st.sampled_from(["update", "permission", "low_battery", "anr", "crash"])),
    st.tuples(st.just("start"), st.sampled_from(["com.example.app", "com.android.settings", "com.android.launcher3"])),
    st.tuples(st.just("advance"), st.floats(0, 1e6)),
)


def _do(screen: Screen, step: tuple[object, ...]) -> None:
    match step:
        case ("tap", (int(x), int(y))):
            screen.tap(x, y)
        case ("swipe", (int(x1), int(y1)), (int(x2), int(y2))):
            screen.swipe(x1, y1, x2, y2)
        case ("key", int(code)):
            screen.key(code)
        case ("text", str(value)):
            screen.text(value)
        case ("resize", (int(width), int(height), int(density))):
            screen.resize(width, height, density)
        case ("dialog", str(kind)):
            screen.show_dialog(kind)
        case ("start", str(package)):
            screen.start(None, package, None, None)
        case ("advance", float(now)):
            screen.advance(now)


@settings(deadline=None, max_examples=examples(80))
@given(st.lists(_STEPS, max_size=25))
def test_no_sequence_of_inputs_breaks_it_and_the_same_one_leads_to_the_same_place(
    steps: list[tuple[object, ...]],
) -> None:
    one, other = new_screen(size=SMALL), new_screen(size=SMALL)
    for step in steps:
        _do(one, step)
        ET.fromstring(one.dump())
        _do(other, step)
    assert one.dump() == other.dump()
    assert one.current_focus() == other.current_focus()
    assert one.png() == other.png()
