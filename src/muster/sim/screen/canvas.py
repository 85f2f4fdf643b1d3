"""Drawing on a palette: one byte a pixel, soft edges by in-between palette entries, a whole picture in a few ms."""

import io
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from muster.sim.screen.geometry import Rect
from muster.sim.screen.theme import Colour, between

_EDGE_STEPS = 6  # in-between colours from background to foreground
_PALETTE_MAX = 256
_SUPERSAMPLING = 4
_PNG_RUN_LENGTH = 3  # zlib's Z_RLE: flat areas compress as well as with deflate's best, at a fraction of the time
_STEPS = [(level * _EDGE_STEPS + 127) // 255 for level in range(256)]  # which in-between colour a mask's level means
_STEP_WIDTHS = [_STEPS.count(step) for step in range(_EDGE_STEPS + 1)]
_DRAWN = bytes(255 if step else 0 for step in _STEPS)

Font = ImageFont.FreeTypeFont


@lru_cache(maxsize=64)
def font_of(size: int) -> Font:
    """Pillow's own font at so many pixels; shared by all phones of the process."""
    font = ImageFont.load_default(max(size, 6))
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels carry FreeType"
    return font


@lru_cache(maxsize=64)
def _corners(radius: int) -> tuple[Image.Image, ...]:
    """The quarters of a soft-edged disc as masks, radius px square: top left, bottom left, top right, bottom right."""
    large = Image.new("L", (2 * radius * _SUPERSAMPLING,) * 2, 0)
    ImageDraw.Draw(large).ellipse((0, 0, large.width - 1, large.height - 1), fill=255)
    disc, far = large.reduce(_SUPERSAMPLING), 2 * radius
    boxes = ((0, 0, radius, radius), (0, radius, radius, far), (radius, 0, far, radius), (radius, radius, far, far))
    return tuple(disc.crop(box) for box in boxes)


class Canvas:
    """Palette indices in an 8-bit image. Colours are allotted as they are used; past 256 the nearest one serves."""

    def __init__(self, width: int, height: int, fill: Colour) -> None:
        self._palette: dict[Colour, int] = {fill: 0}
        self._colours: list[Colour] = [fill]
        self._image = Image.new("L", (width, height), 0)
        self._draw = ImageDraw.Draw(self._image)

    def rect(self, frame: Rect, fill: Colour) -> None:
        """A plain rectangle."""
        if not frame.is_empty:
            self._draw.rectangle((frame.left, frame.top, frame.right - 1, frame.bottom - 1), fill=self._index(fill))

    def rounded(self, frame: Rect, fill: Colour, radius: int, around: Colour | None = None) -> None:
        """A rectangle with soft round corners, blended into `around` or into what is there."""
        radius = min(radius, frame.width // 2, frame.height // 2)
        if radius < 1:
            self.rect(frame, fill)
            return
        places = [(x, y) for x in (frame.left, frame.right - radius) for y in (frame.top, frame.bottom - radius)]
        for mask, (x, y) in zip(_corners(radius), places, strict=True):
            self._stamp(mask, x, y, fill, around)
        self.rect(frame.inset(radius, 0), fill)
        self.rect(Rect(frame.left, frame.top + radius, frame.left + radius, frame.bottom - radius), fill)
        self.rect(Rect(frame.right - radius, frame.top + radius, frame.right, frame.bottom - radius), fill)

    def polygon(self, points: tuple[tuple[int, int], ...], fill: Colour) -> None:
        """A soft-edged polygon."""
        left, top = min(x for x, _ in points), min(y for _, y in points)
        width, height = max(x for x, _ in points) - left + 1, max(y for _, y in points) - top + 1
        large = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING), 0)
        scaled = [((x - left) * _SUPERSAMPLING, (y - top) * _SUPERSAMPLING) for x, y in points]
        ImageDraw.Draw(large).polygon(scaled, fill=255)
        self._stamp(large.reduce(_SUPERSAMPLING), left, top, fill)

    def write(self, text: str, at: tuple[int, int], size: int, ink: Colour, *, bold: bool = False) -> None:
        """One line of text, its left edge and vertical middle at a point."""
        font, stroke = font_of(size), (size / 40 if bold else 0)
        left, top, right, bottom = font.getbbox(text, anchor="lm", stroke_width=stroke)
        if right <= left or bottom <= top:
            return
        mask = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2), 0)
        pen = ImageDraw.Draw(mask)
        pen.text((1 - left, 1 - top), text, font=font, fill=255, anchor="lm", stroke_width=stroke)
        self._stamp(mask, at[0] + int(left) - 1, at[1] + int(top) - 1, ink)

    def dots(self, count: int, box: Rect, size: int, ink: Colour) -> None:
        """A password's dots, as many as fit: the font has none of its own."""
        radius = max(2, size // 5)
        top = box.centre[1] - radius
        for number in range(min(count, box.width // (3 * radius))):
            left = box.left + number * radius * 3
            self.rounded(Rect(left, top, left + 2 * radius, top + 2 * radius), ink, radius)

    def dim(self, part: float, to: Colour) -> None:
        """Shifts everything drawn so far towards a colour: a change of the palette only."""
        self._colours = [between(colour, to, part) for colour in self._colours]
        self._palette = {}
        for index, colour in enumerate(self._colours):
            self._palette.setdefault(colour, index)

    def png(self) -> bytes:
        """The picture as an indexed PNG."""
        self._image.putpalette([channel for colour in self._colours for channel in colour])
        out = io.BytesIO()
        self._image.save(out, "PNG", compress_level=1, compress_type=_PNG_RUN_LENGTH)
        return out.getvalue()

    def _stamp(self, mask: Image.Image, x: int, y: int, fill: Colour, around: Colour | None = None) -> None:
        """Lays a colour through a soft mask; what lies beneath is told, or taken from the mask's first pixel."""
        visible = Rect(0, 0, self._image.width, self._image.height).cut(Rect(x, y, x + mask.width, y + mask.height))
        if visible.is_empty:
            return
        beneath = around or self._colours[self._pixel(visible.left, visible.top)]
        ramp = [self._index(between(beneath, fill, step / _EDGE_STEPS)) for step in range(_EDGE_STEPS + 1)]
        levels = mask.tobytes()
        table = b"".join(bytes((index,)) * width for index, width in zip(ramp, _STEP_WIDTHS, strict=True))
        # Translating bytes costs a tenth of Image.point, which rounds all 256 entries of its table on each call.
        colours = Image.frombytes("L", mask.size, levels.translate(table))
        self._image.paste(colours, (x, y), Image.frombytes("L", mask.size, levels.translate(_DRAWN)))

    def _pixel(self, x: int, y: int) -> int:
        value = self._image.getpixel((x, y))
        assert isinstance(value, int | float), "an 8-bit image has one number a pixel"
        return int(value)

    def _index(self, colour: Colour) -> int:
        known = self._palette.get(colour)
        if known is not None:
            return known
        if len(self._colours) >= _PALETTE_MAX:
            return min(range(_PALETTE_MAX), key=lambda index: _distance(self._colours[index], colour))
        self._colours.append(colour)
        self._palette[colour] = len(self._colours) - 1
        return self._palette[colour]


def _distance(one: Colour, other: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
