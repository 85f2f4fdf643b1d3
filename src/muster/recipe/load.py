"""Text → document. JSON or YAML, bounded, and strict where a parser would guess."""

import json
import re
from collections.abc import Hashable
from typing import Any

import yaml as pyyaml

from muster.domain import limits


class DocumentError(ValueError):
    """The text is no document at all: too large, broken syntax, a key given twice. The message tells the place."""


def load_document(text: str, *, yaml: bool) -> object:
    """The document in `text`. Raises DocumentError; at most `RECIPE_BYTES_MAX` bytes of UTF-8.

    YAML is read as YAML 1.2 does: only `true` and `false` are booleans and `0123` is text, so a param value is never
    turned into another one. Anchors and aliases are refused: they can make a gigabyte of a kilobyte.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.RECIPE_BYTES_MAX:
        raise DocumentError(f"the document has {size} bytes; at most {limits.RECIPE_BYTES_MAX} are allowed")
    try:
        return _load_yaml(text) if yaml else _load_json(text)
    except RecursionError as error:
        raise DocumentError("the document is nested too deeply") from error


def _load_json(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DocumentError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except DocumentError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise DocumentError(str(error)) from error


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise DocumentError(f"the key {key!r} is given twice in one object")
        found[key] = value
    return found


def _refuse_constant(name: str) -> object:
    raise DocumentError(f"{name} is not JSON")


class _YamlLoader(getattr(pyyaml, "CSafeLoader", pyyaml.SafeLoader)):  # type: ignore[misc]  # base chosen at run time
    """Safe loader with YAML 1.2's scalars and an error for a key given twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own shape

    def construct_mapping(self, node: pyyaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, pyyaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise DocumentError(f"{_place(key_node.start_mark)}: a key must be text")
            if key_node.value in seen:
                raise DocumentError(f"{_place(key_node.start_mark)}: the key {key_node.value!r} is given twice")
            seen.add(key_node.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,18})$"), list("-+0123456789")
)
_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)\.[0-9]+$"), list("-+0123456789")
)
_YamlLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def _load_yaml(text: str) -> object:
    try:
        _refuse_aliases(text)
        document: object = pyyaml.load(text, Loader=_YamlLoader)  # noqa: S506  # a subclass of the safe loader
    except pyyaml.MarkedYAMLError as error:
        raise DocumentError(f"{_place(error.problem_mark)}: {error.problem or error.context}") from error
    except pyyaml.YAMLError as error:
        raise DocumentError(str(error)) from error
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(str(error)) from error
    return document


def _refuse_aliases(text: str) -> None:
    for event in pyyaml.parse(text, Loader=_YamlLoader):
        if isinstance(event, pyyaml.AliasEvent):
            raise DocumentError(f"{_place(event.start_mark)}: aliases (*{event.anchor}) are not allowed")


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else "the document"
