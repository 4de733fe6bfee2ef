"""Strategies of config.json documents: sound ones made from our schema, and ones with something changed."""

from __future__ import annotations

import copy
import json
import os
from typing import Any, cast

import ocirun_spec
from hypothesis import strategies as st

Json = Any
Pointer = tuple[str | int, ...]

with open(
    os.path.join(os.path.dirname(ocirun_spec.__file__), "config-schema.json"), encoding="utf-8"
) as _file:
    SCHEMA: dict[str, Any] = json.load(_file)

#: What stands in for a value: of every type, and just inside and outside of the limits.
ODD: list[Json] = [
    None, True, False, -1, 0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63,
    2**64 - 1, 2**64, 10**400, -(2**31), -(2**31) - 1, -(2**63), -(2**63) - 1, 511, 512, 0.0, 1.0,
    -1.5, 1e300,
    "", "x", "pid", "c", "RLIMIT_NOFILE", "RLIMIT_NOFILE\n", "RLIMIT_", "2MB", "2MB\n", "02MB", "MB:",
    "MB:\n", "0-1", "0-1\n", "SCMP_ACT_ALLOW", "\n", "private",
    [], [""], [1], [None], [[]], [{}], {}, {"": 1}, {"\n": 1}, {"a": 1}, {"a": "b"}, {"a/b~c": None},
]  # fmt: skip


def sound() -> st.SearchStrategy[Json]:
    """Documents that the schema admits; rules across members may still refuse them."""
    return _of({"$ref": "#/definitions/Config"})


@st.composite
def changed(draw: st.DrawFn) -> Json:
    """A sound document with up to three changes: a value replaced, a member taken out, or one put in."""
    document = copy.deepcopy(draw(sound()))
    for _ in range(draw(st.integers(1, 3))):
        document = change(draw, document)
    return document


def change(draw: st.DrawFn, document: Json) -> Json:
    """``document`` with one change: a value replaced, a member taken out, or one put in."""
    pointer = draw(st.sampled_from(pointers(document)))
    if not pointer:
        return copy.deepcopy(draw(st.sampled_from(ODD))) if draw(st.booleans()) else document
    holder = document
    for part in pointer[:-1]:
        holder = holder[part]
    action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if action == "replace":
        holder[pointer[-1]] = copy.deepcopy(draw(st.sampled_from(ODD)))
    elif action == "remove":
        del holder[pointer[-1]]
    elif isinstance(holder, dict):
        holder[draw(st.sampled_from(["unknown", "typ", "", "path"]))] = copy.deepcopy(
            draw(st.sampled_from(ODD))
        )
    return document


def pointers(value: Json, above: Pointer = ()) -> list[Pointer]:
    """The places of everything in ``value``."""
    found: list[Pointer] = [above]
    inner: list[tuple[str | int, Json]] = []
    if isinstance(value, dict):
        inner += cast("dict[str, Json]", value).items()
    elif isinstance(value, list):
        inner += enumerate(cast("list[object]", value))
    for part, item in inner:
        found += pointers(item, (*above, part))
    return found


def everything() -> Json:
    """One document with every member of the schema for Linux in it."""
    return _whole({"$ref": "#/definitions/Config"})


def replaced(value: Json, depth: int, odd: Json) -> Json:
    """``value`` with everything that is ``depth`` levels inside replaced by ``odd``."""
    if depth == 0:
        return copy.deepcopy(odd)
    if isinstance(value, list):
        return [replaced(item, depth - 1, odd) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: replaced(item, depth - 1, odd) for name, item in cast("dict[str, Json]", value).items()}
    return value


def _whole(node: Json) -> Json:
    node = _resolved(node)
    if "properties" in node:
        return {name: _whole(child) for name, child in node["properties"].items() if not _foreign(child)}
    if node["type"] == "object":
        return {"key": _whole(_values(node))}
    if node["type"] == "array":
        return [_whole(node["items"])]
    return _SAMPLES.get(node.get("pattern"), node.get("enum", [None])[0] or _SAMPLES[node["type"]])


def _resolved(node: Json) -> Json:
    return SCHEMA["definitions"][str(node["$ref"]).rpartition("/")[2]] if "$ref" in node else node


_SAMPLES: dict[str | None, Json] = {
    "^RLIMIT_[A-Z]+$": "RLIMIT_CORE",
    "^[cbup]$": "c",
    "^[1-9][0-9]*[KMG]B$": "2MB",
    "string": "",
    "boolean": True,
    "integer": 1,
    "^MB:[^\\n]*$": "MB:0=1",
}


def _of(node: Json) -> st.SearchStrategy[Json]:
    node = _resolved(node)
    if "pattern" in node:
        whole = str(node["pattern"]).removesuffix("$") + r"\Z"
        return st.from_regex(whole, alphabet=st.characters(codec="ascii"))
    if node["type"] == "object":
        return _object(node)
    if node["type"] == "array":
        return st.lists(_of(node["items"]), min_size=node.get("minItems", 0), max_size=2)
    if node["type"] == "integer":
        return st.integers(node.get("minimum"), node.get("maximum"))
    if "enum" in node:
        return st.sampled_from(cast("list[str]", node["enum"]))
    return st.booleans() if node["type"] == "boolean" else _TEXT


def _object(node: Json) -> st.SearchStrategy[Json]:
    children: dict[str, Json] = node.get("properties", {})
    members = {name: _of(child) for name, child in children.items() if not _foreign(child)}
    if not members:
        return st.dictionaries(_TEXT, _of(_values(node)), max_size=2)
    needed: list[str] = node.get("required", [])
    return st.fixed_dictionaries(
        {name: members[name] for name in needed},
        optional={name: child for name, child in members.items() if name not in needed},
    )


def _values(node: Json) -> Json:
    return node.get("additionalProperties") or node["patternProperties"]["."]


def _foreign(node: Json) -> bool:
    """Whether a member is for another system: the official schema looks into it, ours does not."""
    return bool(node.get("$ref") == "#/definitions/AnyObject")


_TEXT = st.text(max_size=4)
