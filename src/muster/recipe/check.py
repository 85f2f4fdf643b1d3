"""Checks that a type cannot express: references, templates, patterns. They read the raw document, so that one broken
step does not hide what is wrong in the others."""

import re
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from muster.domain import limits
from muster.recipe.file_names import why_no_library_name, why_no_phone_path
from muster.recipe.issues import PathPart, RecipeIssue
from muster.recipe.model import PATTERN_CHARS_MAX, Assertion, OutputExpectation
from muster.recipe.patterns import PatternError, compile_pattern
from muster.recipe.render import command_slots, strip_adb
from muster.recipe.template import BUILT_INS, VIDEO_ID, Filter, TemplateError, placeholders
from muster.recipe.vendor_actions import COMMAND_PARAM, find_action, why_not

Location = tuple[PathPart, ...]
_PICTURE_KINDS: Final = frozenset({"screenshot"})
_OUTPUT_KINDS: Final = frozenset({"adb", "vendor"})
# Words that only the PC's `adb` knows; after `adb ` they would reach the phone's shell, which has no such command.
_HOST_WORDS: Final = frozenset(
    {
        "install",
        "uninstall",
        "push",
        "pull",
        "devices",
        "connect",
        "disconnect",
        "forward",
        "reverse",
        "sideload",
        "root",
        "unroot",
        "tcpip",
        "usb",
        "wait-for-device",
        "kill-server",
        "start-server",
    }
)


def model_of_assertion(inside: Location) -> type[BaseModel]:
    """The model in which a field below `assert` stands."""
    return OutputExpectation if "output" in inside else Assertion


def check_document(document: dict[Any, Any]) -> tuple[list[RecipeIssue], list[RecipeIssue]]:
    """(errors, warnings) of a document whose shapes may be wrong; what has no readable shape is passed over."""
    checker = _Checker(_keys(document.get("params")), document.get("defaultStepTimeoutMs"))
    raw = document.get("steps")
    steps = [(index, step) for index, step in enumerate(raw if isinstance(raw, list) else []) if isinstance(step, dict)]
    for index, step in steps:
        checker.step(index, step)
    return checker.errors, checker.warnings


def _keys(params: object) -> frozenset[str]:
    return frozenset(key for key in params if isinstance(key, str)) if isinstance(params, dict) else frozenset()


class _Checker:
    """Walks the steps in order and remembers those it has passed."""

    def __init__(self, recipe_params: frozenset[str], default_timeout_ms: object) -> None:
        self.errors: list[RecipeIssue] = []
        self.warnings: list[RecipeIssue] = []
        self._recipe_params = recipe_params
        self._default_timeout_ms = default_timeout_ms
        self._kinds: dict[str, object] = {}
        self._index_of: dict[str, int] = {}

    def step(self, index: int, step: dict[Any, Any]) -> None:
        """One step, then it counts as an earlier one."""
        at: Location = ("steps", index)
        keys = self._recipe_params | _keys(step.get("params"))
        match step.get("kind"):
            case "adb":
                self._command((*at, "command"), step.get("command"), keys)
            case "wait":
                self._command((*at, "until"), step.get("until"), keys)
                self._pause(at, step)
            case "vendor":
                self._vendor(at, step.get("action"), step.get("params"))
            case "install" | "push" | "pull":
                self._files(at, step, keys)
        self._upload(at, step)
        self._assertion(at, step.get("assert"), keys)
        for place, condition in _conditions((*at, "when"), step.get("when")):
            self._condition(place, condition)
        if step.get("retryCount") and step.get("onFailure") != "retry":
            self._warn((*at, "retryCount"), "has no effect without onFailure: retry")
        if step.get("onFailure") == "retry" and not step.get("retryCount"):
            self._warn((*at, "onFailure"), "retry without a retryCount tries no second time")
        self._remember(at, index, step)

    def _remember(self, at: Location, index: int, step: dict[Any, Any]) -> None:
        step_id = step.get("id")
        if not isinstance(step_id, str):
            return
        if step_id in self._index_of:
            self._fail((*at, "id"), f"{step_id} is already the id of steps[{self._index_of[step_id]}]")
            return
        self._index_of[step_id], self._kinds[step_id] = index, step.get("kind")

    def _upload(self, at: Location, step: dict[Any, Any]) -> None:
        source = step.get("source")
        if step.get("kind") != "upload" or not isinstance(source, str):
            return
        if self._refers_to_earlier((*at, "source"), source) and self._kinds[source] not in _PICTURE_KINDS:
            self._fail((*at, "source"), f"{source} takes no picture; name a screenshot step")

    def _assertion(self, at: Location, assertion: object, keys: frozenset[str]) -> None:
        if not isinstance(assertion, dict):
            return
        place = (*at, "assert")
        step = assertion.get("step")
        found = isinstance(step, str) and self._refers_to_earlier((*place, "step"), step)
        if found and self._kinds[str(step)] not in _OUTPUT_KINDS:
            self._fail((*place, "step"), f"{step} has no output; name an adb or a vendor step")
        output = assertion.get("output")
        if not isinstance(output, dict):
            return
        for name in ("equals", "contains"):
            if isinstance(text := output.get(name), str):
                self._text((*place, "output", name), text, keys)
        self._pattern((*place, "output", "matches"), output.get("matches"))

    def _condition(self, place: Location, condition: dict[Any, Any]) -> None:
        if isinstance(step := condition.get("step"), str):
            self._refers_to_earlier((*place, "step"), step)
        elif "device" in condition:
            self._pattern((*place, "matches"), condition.get("matches"))

    def _refers_to_earlier(self, place: Location, step_id: str) -> bool:
        if step_id in self._kinds:
            return True
        earlier = ", ".join(self._kinds) or "none"
        self._fail(place, f"{step_id} names no earlier step; earlier steps: {earlier}")
        return False

    def _pattern(self, place: Location, pattern: object) -> None:
        if not isinstance(pattern, str) or len(pattern) > PATTERN_CHARS_MAX:
            return
        try:
            compile_pattern(pattern)
        except PatternError as error:
            self._fail(place, f"does not compile: {error}")

    def _text(self, place: Location, text: str, keys: frozenset[str]) -> bool:
        """A text that is filled as it is, outside any shell. True: what it will say is not known yet."""
        try:
            found = placeholders(text)
        except TemplateError as error:
            self._fail(place, str(error))
            return True
        for placeholder in found:
            if placeholder.filter:
                self._fail(place, f"{placeholder}: filters are for commands; write {{{{{placeholder.key}}}}}")
            elif not placeholder.is_secret:
                self._known_key(place, placeholder.key, keys)
        return bool(found)

    def _pause(self, at: Location, step: dict[Any, Any]) -> None:
        """A pause that its own limit would always cut off."""
        limit = step.get("timeoutMs", self._default_timeout_ms)
        limit_ms = limit if isinstance(limit, int) else limits.STEP_TIMEOUT_MS_DEFAULT
        pause_ms = step.get("durationMs")
        if isinstance(pause_ms, int) and limit_ms <= pause_ms <= limits.STEP_TIMEOUT_MS_MAX:
            self._fail((*at, "durationMs"), f"{pause_ms} is not below the step's limit of {limit_ms}; raise timeoutMs")

    def _vendor(self, at: Location, name: object, params: object) -> None:
        if not isinstance(name, str):
            return
        action = find_action(name)
        if action is None:
            self._fail((*at, "action"), why_not(name))
            return
        if action.is_raw:
            self._warn(
                (*at, "action"), f"{action.name} runs only on nodes that allow raw shell; an adb step runs on all"
            )
        for key, text in params.items() if isinstance(params, dict) else ():
            if isinstance(text, str) and action.is_raw and key == COMMAND_PARAM:
                self._command((*at, "params", key), text, self._recipe_params)
            elif isinstance(text, str):
                self._text((*at, "params", key), text, self._recipe_params)

    def _files(self, at: Location, step: dict[Any, Any], keys: frozenset[str]) -> None:
        kind = step.get("kind")
        for name in ("source", "target"):
            text = step.get(name)
            if not isinstance(text, str) or self._text((*at, name), text, keys):
                continue
            is_of_phone = name == "target" or kind == "pull"
            why = why_no_phone_path(text) if is_of_phone else why_no_library_name(text, is_apk=kind == "install")
            if why:
                self._fail((*at, name), why)

    def _command(self, place: Location, command: object, keys: frozenset[str]) -> None:
        if not isinstance(command, str):
            return
        self._prefix(place, command)
        try:
            found = [slot.placeholder for slot in command_slots(strip_adb(command))]
        except TemplateError as error:
            self._fail(place, str(error))
            return
        for placeholder in found:
            if placeholder.filter is Filter.RAW:
                self._warn(place, f"{placeholder} inserts a value as it is: it runs only on nodes that allow raw shell")
            if not placeholder.is_secret:
                self._known_key(place, placeholder.key, keys)

    def _prefix(self, place: Location, command: str) -> None:
        stripped = strip_adb(command)
        if not stripped.strip():
            self._fail(place, "is empty")
        words = command.split()
        if len(words) > 1 and words[0] == "adb":
            if words[1].startswith("-"):
                self._fail(place, f"`adb {words[1]}` chooses a phone; muster does that. Write what follows `adb shell`")
            elif words[1] in _HOST_WORDS:
                self._fail(place, f"`adb {words[1]}` is a command of the PC, not of the phone's shell")
        if re.fullmatch(r"""\s*(["'])[^"']*\s[^"']*\1\s*""", stripped):
            self._warn(place, "stands in quotes as a whole: the phone looks for a program of that name")

    def _known_key(self, place: Location, key: str, keys: frozenset[str]) -> None:
        if key in keys:
            return
        if key == VIDEO_ID:
            self._warn(place, "{{VIDEO_ID}} has no value in a run without a youtubeVideoId; give it one under params")
        elif key not in BUILT_INS:
            self._warn(place, f"{{{{{key}}}}} has no value here; every run must give the param {key}")

    def _fail(self, place: Location, message: str) -> None:
        self.errors.append(RecipeIssue.at(place, message))

    def _warn(self, place: Location, message: str) -> None:
        self.warnings.append(RecipeIssue.at(place, message))


def _conditions(place: Location, value: object) -> Iterator[tuple[Location, dict[Any, Any]]]:
    """Every object of a `when`, however deep (the document's depth is bounded before)."""
    if not isinstance(value, dict):
        return
    yield place, value
    yield from _conditions((*place, "not"), value.get("not"))
    for name in ("all", "any"):
        members = value.get(name)
        for index, member in enumerate(members if isinstance(members, list) else []):
            yield from _conditions((*place, name, index), member)
