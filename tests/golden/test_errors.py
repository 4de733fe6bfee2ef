"""What is said of every member of config.json when it is wrong; OCIRUN_UPDATE_GOLDEN=1 writes it anew.

``errors/whole.json`` has every member in it and no fault.  Each is spoilt alone, in every way that the
schema knows for it, and has to be told alone: pointer, value, rule and hint are those of
``errors/members.txt``, which people have reviewed, and line and column lead to the spoilt value.  What no
schema can say, rules across members, is in tests/unit/test_config_rules.py.
"""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from ocirun_spec.checker import escape

from ocirun.config import read
from ocirun.errors import ConfigError
from tests.golden import cases
from tests.property.config_documents import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.errors import Fault

WHOLE = cases.HERE / "errors" / "whole.json"
REVIEWED = cases.HERE / "errors" / "members.txt"
#: Stands for the member's absence.
ABSENT = object()
_OF_ANOTHER_TYPE: dict[str, object] = {
    "string": 7, "integer": "7", "boolean": "yes", "array": {"a": "b"}, "object": ["a"],
}  # fmt: skip

Way = tuple[str | int, ...]
Node = dict[str, Any]


def _resolved(node: Node) -> Node:
    reference = str(node.get("$ref", ""))
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else node


def _children(node: Node, value: Any, way: Way) -> Iterator[tuple[Way, Node, Any]]:  # noqa: ANN401
    """What is directly inside of a value, of a list its first: its place, its schema, and itself."""
    if node["type"] == "array":
        yield from (((*way, 0), node["items"], first) for first in value[:1])
    elif node["type"] == "object":
        known: Node = node.get("properties", {})
        [other] = [*node.get("patternProperties", {}).values()] or [node.get("additionalProperties")]
        for name, item in value.items():
            yield (*way, name), known.get(name, other), item


def _spoilt(node: Node) -> Iterator[object]:
    """Values that the schema does not admit for a member, one for each of its words."""
    yield _OF_ANOTHER_TYPE[node["type"]]
    if "minimum" in node:
        yield node["minimum"] - 1
    if "enum" in node or "pattern" in node:
        yield "odd!"
    if "minItems" in node:
        yield []


def _members(node: Node, value: Any, way: Way = ()) -> Iterator[tuple[Way, object]]:  # noqa: ANN401
    """Every place of the document, with every value that is wrong there."""
    node = _resolved(node)
    if way:
        yield from ((way, bad) for bad in _spoilt(node))
    needed = [*node.get("required", ()), *node.get("x-promised", ())]
    for inner, schema, item in _children(node, value, way):
        if inner[-1] in needed:
            yield inner, ABSENT
        yield from _members(schema, item, inner)


def _with(document: Any, way: Way, bad: object) -> bytes:  # noqa: ANN401
    changed = copy.deepcopy(document)
    *above, last = way
    inside = changed
    for part in above:
        inside = inside[part]
    if bad is ABSENT:
        del inside[last]
    else:
        inside[last] = bad
    return json.dumps(changed, indent=1).encode()


def _told(source: bytes) -> Fault:
    with pytest.raises(ConfigError) as caught:
        read(source)
    [fault] = caught.value.faults
    return fault


def _leads_to(source: bytes, fault: Fault) -> str:
    """The text at the line and column of a fault."""
    return source.decode().split("\n", fault.line - 1)[-1][fault.column - 1 :]


def test_the_whole_document_has_no_fault_and_every_member_of_the_schema() -> None:
    assert read(WHOLE.read_bytes()).warnings == ()
    missing = [
        (way, name)
        for way, node, value in _objects(SCHEMA, json.loads(WHOLE.read_bytes()))
        for name in node.get("properties", {}).keys() - value.keys()
    ]
    assert missing == []


def _objects(node: Node, value: Any, way: Way = ()) -> Iterator[tuple[Way, Node, Any]]:  # noqa: ANN401
    node = _resolved(node)
    if node["type"] == "object":
        yield way, node, value
    for inner, schema, item in _children(node, value, way):
        yield from _objects(schema, item, inner)


def test_every_member_that_is_wrong_is_told_in_the_reviewed_words_at_its_place() -> None:
    document = json.loads(WHOLE.read_bytes())
    lines: list[str] = []
    for way, bad in _members(SCHEMA, document):
        source = _with(document, way, bad)
        fault = _told(source)
        assert fault.pointer == "".join(f"/{escape(str(part))}" for part in way)
        assert fault.hint
        begins = "{" if bad is ABSENT else json.dumps(bad, indent=1).split("\n")[0]
        assert _leads_to(source, fault).startswith(begins)
        lines.append(fault.render("").partition(" ")[2] + "\n")
    text = "".join(lines)
    if os.environ.get("OCIRUN_UPDATE_GOLDEN"):
        REVIEWED.write_text(text, encoding="utf-8")
    assert text == REVIEWED.read_text(encoding="utf-8")
