"""From a scene to a PNG. Knows shapes and labels, no app."""

from muster.sim.screen.canvas import Canvas, font_of
from muster.sim.screen.geometry import Rect
from muster.sim.screen.theme import BLACK, between
from muster.sim.screen.widgets import PASSWORD_DOT, Box, Glyph, Label, Scene, Shade, Shape, Widget

_TEXT_CHARS_MAX = 400  # longer text is cut before it is measured: no line of the panel holds more
_DIM_BEHIND_DIALOG = 0.45
_ELLIPSIS = "…"


def render(scene: Scene) -> bytes:
    """The whole panel as a PNG; the same scene gives the same bytes."""
    canvas = Canvas(scene.frame.width, scene.frame.height, scene.backdrop)
    *beneath, front = scene.windows
    for window in beneath:
        _draw_tree(canvas, window.root)
    if beneath:
        _draw_bars(canvas, scene)
        canvas.dim(_DIM_BEHIND_DIALOG, BLACK)
    _draw_tree(canvas, front.root)
    if not beneath:
        _draw_bars(canvas, scene)
    return canvas.png()


def _draw_bars(canvas: Canvas, scene: Scene) -> None:
    for bar in scene.bars:
        _draw_tree(canvas, bar)


def _draw_tree(canvas: Canvas, root: Widget) -> None:
    for widget in root.walk():
        for shape in widget.shapes:
            _draw_shape(canvas, shape)
        if widget.label and widget.text:
            _draw_label(canvas, widget.text, widget.label)


def _draw_shape(canvas: Canvas, shape: Shape) -> None:
    if isinstance(shape, Box):
        if shape.outline is not None:
            canvas.rounded(shape.frame, shape.outline, shape.radius)
            inner = shape.frame.inset(shape.outline_px)
            canvas.rounded(inner, shape.fill, max(0, shape.radius - shape.outline_px), shape.outline)
        else:
            canvas.rounded(shape.frame, shape.fill, shape.radius)
    elif isinstance(shape, Shade):
        _draw_gradient(canvas, shape)
    elif isinstance(shape, Glyph):
        _draw_label(canvas, shape.letter, Label(shape.frame, shape.size, shape.ink, centred=True, bold=True))
    else:
        canvas.polygon(shape.points, shape.fill)


def _draw_gradient(canvas: Canvas, shade: Shade) -> None:
    frame = shade.frame
    for band in range(shade.bands):
        top = frame.top + frame.height * band // shade.bands
        bottom = frame.top + frame.height * (band + 1) // shade.bands
        colour = between(shade.top, shade.bottom, band / max(1, shade.bands - 1))
        canvas.rect(Rect(frame.left, top, frame.right, bottom), colour)


def _draw_label(canvas: Canvas, text: str, label: Label) -> None:
    if set(text) == {PASSWORD_DOT}:
        canvas.dots(len(text), label.box, label.size, label.ink)
        return
    size = _fitting_size(text, label) if label.fit else label.size
    lines = wrap(text, label, size)
    step = label.box.height / max(1, label.lines)
    first = label.box.top + (label.box.height - step * len(lines)) / 2 if label.lines > len(lines) else label.box.top
    for number, line in enumerate(lines):
        spare = label.box.width - font_of(size).getlength(line)
        x = label.box.left + (max(0, round(spare / 2)) if label.centred else 0)
        canvas.write(line, (x, round(first + step * (number + 0.5))), size, label.ink, bold=label.bold)


def _fitting_size(text: str, label: Label) -> int:
    size = label.size
    while size > 8 and font_of(size).getlength(text) > label.box.width:
        size -= max(1, size // 10)
    return size


def wrap(text: str, label: Label, size: int) -> list[str]:
    """The lines to draw, at most `label.lines`, the last one cut with an ellipsis where the text is longer."""
    flat = " ".join(text[-_TEXT_CHARS_MAX:].split()) if label.keep_end else " ".join(text[:_TEXT_CHARS_MAX].split())
    lines: list[str] = []
    words = flat.split(" ")
    while words and len(lines) < label.lines - 1:
        taken = _words_that_fit(words, label.box.width, size)
        lines.append(_cut(" ".join(words[:taken]), label, size))
        words = words[taken:]
    if words:
        lines.append(_cut(" ".join(words), label, size))
    return lines


def _words_that_fit(words: list[str], width: int, size: int) -> int:
    font, taken = font_of(size), 1
    while taken < len(words) and font.getlength(" ".join(words[: taken + 1])) <= width:
        taken += 1
    return taken


def _cut(line: str, label: Label, size: int) -> str:
    font = font_of(size)
    if font.getlength(line) <= label.box.width:
        return line
    while line and font.getlength(_ELLIPSIS + line) > label.box.width:
        line = line[1:] if label.keep_end else line[:-1]
    return _ELLIPSIS + line if label.keep_end else line.rstrip() + _ELLIPSIS
