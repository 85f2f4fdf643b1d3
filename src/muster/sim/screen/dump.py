"""From a window to the XML of `uiautomator dump`: the same attributes in the same order as a current phone writes."""

from xml.sax.saxutils import escape

from muster.sim.screen.widgets import Widget, Window

_HEAD = "<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>"
_ENTITIES = {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}


def dump(window: Window) -> str:
    """The accessibility tree of the window that has the focus."""
    return f'{_HEAD}<hierarchy rotation="0">{_node(window.root, 0, window.package)}</hierarchy>'


def _node(widget: Widget, index: int, package: str) -> str:
    inside = "".join(_node(child, position, package) for position, child in enumerate(widget.children))
    attributes = " ".join(f"{name}={_quoted(value)}" for name, value in _attributes(widget, index, package))
    return f"<node {attributes}>{inside}</node>" if inside else f"<node {attributes} />"


def _attributes(widget: Widget, index: int, package: str) -> list[tuple[str, str]]:
    left, top, right, bottom = widget.bounds
    return [
        ("index", str(index)),
        ("text", widget.text),
        ("resource-id", widget.resource_id),
        ("class", widget.kind),
        ("package", package),
        ("content-desc", widget.description),
        ("checkable", _flag(widget.checkable)),
        ("checked", _flag(widget.checked)),
        ("clickable", _flag(widget.clickable)),
        ("enabled", _flag(widget.enabled)),
        ("focusable", _flag(widget.clickable)),
        ("focused", _flag(widget.focused)),
        ("scrollable", _flag(widget.scrollable)),
        ("long-clickable", "false"),
        ("password", _flag(widget.password)),
        ("selected", "false"),
        ("bounds", f"[{left},{top}][{right},{bottom}]"),
    ]


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _quoted(value: str) -> str:
    """Text as an XML attribute; what XML cannot carry becomes a dot, as uiautomator itself does."""
    clean = "".join(char if _is_xml(ord(char)) else "." for char in value)
    return f'"{escape(clean, _ENTITIES)}"'


def _is_xml(code: int) -> bool:
    return code in {0x9, 0xA, 0xD} or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
