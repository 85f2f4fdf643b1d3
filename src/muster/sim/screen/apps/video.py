"""The video page that a VIEW intent with a video link opens: player area, the id in large letters."""

import re
from urllib.parse import parse_qs, urlsplit

from muster.sim.screen.apps.base import Activity, App, Move
from muster.sim.screen.elements import Banner, Button, Gap, Heading, Page, Player, Text, Tone

PACKAGE = "com.google.android.youtube"
HOME, WATCH = ".HomeActivity", ".WatchWhileActivity"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHORT_HOSTS = frozenset({"youtu.be", "www.youtu.be"})
_HOSTS = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com"})


def video_id_of(url: str) -> str | None:
    """The id in a video link: `…?v=ID`, `https://youtu.be/ID`, `…/shorts/ID`, `vnd.youtube:ID`; else None."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    last = parts.path.rpartition("/")[2]
    if parts.scheme == "vnd.youtube":
        candidate = last or parts.netloc
    elif parts.scheme not in {"http", "https"}:
        return None
    elif "v" in (query := parse_qs(parts.query)):
        candidate = query["v"][0]
    elif parts.netloc in _SHORT_HOSTS or (parts.netloc in _HOSTS and parts.path.startswith(("/shorts/", "/live/"))):
        candidate = last
    else:
        return None
    return candidate if _ID.fullmatch(candidate) else None


class VideoApp(App):
    """Plays nothing, tells what it was asked to play."""

    package = PACKAGE
    label = "Video"
    main = HOME
    activities = (HOME, WATCH)

    def __init__(self) -> None:
        super().__init__()
        self._paused: set[str] = set()
        self._unfolded: set[str] = set()

    def clear(self) -> None:
        """Every video plays again when it is opened."""
        self._paused.clear()
        self._unfolded.clear()

    def begin(self, name: str, argument: str) -> Activity | None:
        """A watch page needs a video; opening it starts the player."""
        if name == WATCH and not argument:
            return None
        self.clear()
        return super().begin(name, argument)

    def page(self, activity: Activity) -> Page:
        """The watch page, or the home page that waits for a link."""
        if activity.name == HOME:
            text = Text("Open a video link to watch it here.", lines=2, tone=Tone.MUTED, resource_id="empty")
            return Page((Gap(24), Heading("No video yet"), text), title="Video")
        video = activity.argument
        unfolded = video in self._unfolded
        about = f"Opened from https://www.youtube.com/watch?v={video}. This phone is virtual: no video is streamed."
        return Page(
            (
                Player("play_pause", "Paused" if video in self._paused else "Playing", video not in self._paused),
                Banner(video, "Video id", resource_id="video_id"),
                Heading(f"Video {video}", resource_id="video_title"),
                Text("Virtual channel", tone=Tone.MUTED),
                Button("description", "Hide description" if unfolded else "Show description", strong=False),
                *((Text(about, lines=4, resource_id="description_text"),) if unfolded else ()),
            ),
            title="Video",
            up=True,
        )

    def press(self, activity: Activity, key: str) -> Move | None:
        """Pause and play, fold and unfold the description."""
        chosen = self._paused if key == "play_pause" else self._unfolded
        chosen ^= {activity.argument}
        return None
