"""Colours: every phone has an accent of its own, drawn from its id and seed, so that people can tell pictures apart."""

import colorsys
import hashlib
from dataclasses import dataclass
from functools import lru_cache

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
_LUMINANCE_UNDER_WHITE_MAX = 0.18  # a contrast of at least 4.5 : 1 to white


@dataclass(frozen=True, slots=True)
class Theme:
    """Roles as in Material design; text on `primary` is `on_primary`, and so on."""

    primary: Colour
    on_primary: Colour
    container: Colour
    on_container: Colour
    surface: Colour
    panel: Colour
    ink: Colour
    muted: Colour
    line: Colour
    error: Colour


@lru_cache(maxsize=4096)
def hue_of(device_id: str, seed: int) -> float:
    """The phone's place on the colour wheel, 0 to 1."""
    digest = hashlib.sha256(f"{seed}:{device_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def theme_of(hue: float, *, dark: bool = False) -> Theme:
    """The light or the dark theme around one hue."""
    if dark:
        return Theme(
            primary=shade(hue, 0.74, 0.55),
            on_primary=shade(hue, 0.14, 0.6),
            container=shade(hue, 0.26, 0.4),
            on_container=shade(hue, 0.9, 0.6),
            surface=shade(hue, 0.075, 0.14),
            panel=shade(hue, 0.135, 0.14),
            ink=(232, 230, 234),
            muted=(168, 166, 172),
            line=(92, 90, 98),
            error=(242, 140, 130),
        )
    return Theme(
        primary=_under_white(hue),
        on_primary=WHITE,
        container=shade(hue, 0.89, 0.62),
        on_container=shade(hue, 0.17, 0.7),
        surface=shade(hue, 0.982, 0.5),
        panel=shade(hue, 0.945, 0.34),
        ink=(28, 27, 31),
        muted=(92, 90, 98),
        line=(198, 196, 204),
        error=(186, 26, 26),
    )


def shade(hue: float, lightness: float, saturation: float) -> Colour:
    """One colour of the wheel."""
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _under_white(hue: float) -> Colour:
    """The accent, dark enough for white letters on it: the eye sees yellow and green brighter than blue."""
    lightness = 0.36
    while _luminance(shade(hue, lightness, 0.62)) > _LUMINANCE_UNDER_WHITE_MAX:
        lightness -= 0.02
    return shade(hue, lightness, 0.62)


def _luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.1)."""
    red, green, blue = ((c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def between(start: Colour, end: Colour, part: float) -> Colour:
    """The colour `part` of the way (0 to 1) from one to the other."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(start, end, strict=True))
    return red, green, blue
