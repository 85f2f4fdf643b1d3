"""com.example.app: a sign-in form, a home page and settings; the app that the seed recipes drive."""

from dataclasses import dataclass

from muster.sim.screen.apps.base import Activity, App, Move, Open
from muster.sim.screen.elements import Button, Fact, Field, Gap, Heading, Page, Row, Text, Toggle, Tone

PACKAGE = "com.example.app"
SIGN_IN, HOME, SETTINGS = ".SignInActivity", ".HomeActivity", ".SettingsActivity"
PASSWORD_DEFAULT = "muster-demo"  # noqa: S105 - the imagined app's, printed in the documentation
_TOGGLES = (
    ("notifications", "Notifications", "Tell me when something happens", True),
    ("dark_theme", "Dark theme", "Easier on the eyes at night", False),
    ("data_saver", "Data saver", "Load pictures on Wi-Fi only", False),
    ("remember_me", "Stay signed in", "Until I sign out", True),
)


@dataclass(frozen=True, slots=True)
class SignInPolicy:
    """How the imagined server answers: after `delay_sec` (inf: never), and by the password unless it always fails."""

    password: str = PASSWORD_DEFAULT
    delay_sec: float = 0.0
    always_fails: bool = False
    wrong_password_message: str = "Wrong password. Try again."  # noqa: S105 - a message, not a password
    failure_message: str = "Could not sign in. Try again later."


class ExampleApp(App):
    """Any account signs in with the policy's password; the session outlives a force-stop, not a `clear`."""

    package = PACKAGE
    label = "Example"
    main = SIGN_IN
    activities = (SIGN_IN, HOME, SETTINGS)

    def __init__(self) -> None:
        super().__init__()
        self.policy = SignInPolicy()
        self.clear()

    def clear(self) -> None:
        """Signed out, all settings as shipped."""
        self.account = ""
        self._error = ""
        self._wrong_tries = 0
        self._asked: tuple[float, str, str] | None = None  # when the answer is due, account, password
        self._on = {key: on for key, _, _, on in _TOGGLES}

    def stop(self) -> None:
        """A sign-in under way is lost with the process."""
        self._asked, self._error = None, ""

    def begin(self, name: str, argument: str) -> Activity | None:
        """The sign-in form starts empty with the account field focused."""
        activity = super().begin(name, argument)
        if activity is not None and name == SIGN_IN:
            activity.focus = "account"
            self._error = ""
        return activity

    def settle(self, activity: Activity) -> str | None:
        """Signed in: the form gives way to the home page. Signed out: all pages give way to the form."""
        self._hear_answer()
        if self.account:
            return HOME if activity.name == SIGN_IN else None
        return None if activity.name == SIGN_IN else SIGN_IN

    def page(self, activity: Activity) -> Page:
        """One of the three pages."""
        dark = self._on["dark_theme"]
        if activity.name == SIGN_IN:
            return Page(self._sign_in_form(activity), title="Example", dark=dark)
        if activity.name == HOME:
            return Page(self._home(), title="Example", dark=dark)
        toggles = tuple(Toggle(key, title, below, self._on[key]) for key, title, below, _ in _TOGGLES)
        return Page(toggles, title="Settings", up=True, dark=dark)

    def press(self, activity: Activity, key: str) -> Move | None:
        """Sign in, sign out, open the settings, or flip one."""
        if key == "sign_in":
            self._ask(activity.fields.get("account", ""), activity.fields.get("password", ""))
        elif key == "settings":
            return Open(PACKAGE, SETTINGS)
        elif key == "sign_out":
            self.account = ""
        elif key in self._on:
            self._on[key] = not self._on[key]
        return None

    def _sign_in_form(self, activity: Activity) -> tuple[Heading | Text | Field | Button | Gap, ...]:
        waiting = self._asked is not None
        state = Text(self._error, lines=2, tone=Tone.ERROR, resource_id="error") if self._error else Gap(42)
        if waiting:
            state = Text("Signing in…", lines=2, tone=Tone.ACCENT, resource_id="progress")
        return (
            Gap(20),
            Heading("Welcome", resource_id="welcome"),
            Text("Sign in to go on.", tone=Tone.MUTED),
            Gap(12),
            Field("account", "Account", activity.fields.get("account", ""), enabled=not waiting),
            Field(
                "password",
                "Password",
                activity.fields.get("password", ""),
                password=True,
                enter="sign_in",
                enabled=not waiting,
            ),
            state,
            Button("sign_in", "Sign in", enabled=not waiting),
        )

    def _home(self) -> tuple[Heading | Text | Fact | Row | Button | Gap, ...]:
        return (
            Gap(8),
            Heading("Hello", resource_id="greeting"),
            Text("You are signed in.", tone=Tone.MUTED),
            Gap(8),
            Fact("Account", self.account, resource_id="account_name"),
            Row("settings", "Settings", "Notifications, theme, data", letter="S"),
            Gap(16),
            Button("sign_out", "Sign out", strong=False),
        )

    def _ask(self, account: str, password: str) -> None:
        self._error = ""
        if not account.strip() or not password:
            self._error = "Enter account and password."
            return
        self._asked = (self.now + self.policy.delay_sec, account.strip(), password)
        self._hear_answer()

    def _hear_answer(self) -> None:
        if self._asked is None or self.now < self._asked[0]:
            return
        _, account, password = self._asked
        self._asked = None
        if self.policy.always_fails:
            self._error = self.policy.failure_message
        elif password != self.policy.password:
            self._wrong_tries += 1
            tries = f" ({self._wrong_tries} tries)" if self._wrong_tries > 1 else ""
            self._error = self.policy.wrong_password_message + tries
        else:
            self._wrong_tries = 0
            self.account = account
