"""What a page is made of, before it has a size: an app says what there is, the layout says where."""

from dataclasses import dataclass
from enum import Enum


class Tone(Enum):
    """How a text speaks."""

    NORMAL = "normal"
    MUTED = "muted"
    ERROR = "error"
    ACCENT = "accent"


@dataclass(frozen=True, slots=True)
class Heading:
    """A large line."""

    text: str
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph of at most `lines` lines."""

    text: str
    lines: int = 1
    tone: Tone = Tone.NORMAL
    size_dp: int = 15
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class Banner:
    """One line as large as fits, on a coloured panel: to be read from across the room."""

    text: str
    caption: str
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A text field; ENTER in it presses `enter`, or moves to the next one."""

    key: str
    hint: str
    value: str
    password: bool = False
    enter: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Button:
    """A button across the column; `strong` is the one that the page is for."""

    key: str
    text: str
    strong: bool = True
    enabled: bool = True
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list that opens something."""

    key: str
    title: str
    subtitle: str = ""
    letter: str = ""


@dataclass(frozen=True, slots=True)
class Toggle:
    """A line of a list with a switch; a tap anywhere on it flips the switch."""

    key: str
    title: str
    subtitle: str
    on: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a list that tells something and does nothing."""

    title: str
    value: str
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class Player:
    """A 16:9 picture area with a play or pause button."""

    key: str
    caption: str
    playing: bool


@dataclass(frozen=True, slots=True)
class Icon:
    """An app on the launcher: a coloured tile with a letter and a name under it."""

    key: str
    label: str
    letter: str
    hue: float


@dataclass(frozen=True, slots=True)
class Icons:
    """A grid of apps, four across."""

    icons: tuple[Icon, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """Room."""

    height_dp: int


Element = Heading | Text | Banner | Field | Button | Row | Toggle | Fact | Player | Icons | Gap


@dataclass(frozen=True, slots=True)
class Page:
    """One activity's content. `title` empty: no app bar; `up`: the bar has a back arrow."""

    elements: tuple[Element, ...]
    title: str = ""
    up: bool = False
    dark: bool = False
    wallpaper: bool = False


@dataclass(frozen=True, slots=True)
class DialogPage:
    """A dialog's content: `buttons` are (key, text, resource id), the last one is the strong one."""

    package: str
    title: str
    message: str
    buttons: tuple[tuple[str, str, str], ...]
