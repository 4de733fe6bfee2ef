"""The words in which a broken rule of the schema is told; the fast checker and jsonschema share them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Node = dict[str, Any]

REQUIRED = "is required"
_ARTICLES = {"object": "an object", "array": "an array", "string": "a string", "boolean": "true or false"}


def rule_of(node: Node) -> str:
    """What a value must be to satisfy ``node``, a subschema without ``$ref``, such as ``must be a
    string``."""
    if "x-rule" in node:
        return str(node["x-rule"])
    if "enum" in node:
        return "must be one of " + ", ".join(node["enum"])
    if node["type"] == "integer":
        return _integer(node.get("minimum"), node.get("maximum"))
    return "must be " + _ARTICLES[node["type"]]


def _integer(low: int | None, high: int | None) -> str:
    if low is None:
        return "must be an integer"
    if high is None:
        return f"must be an integer of at least {low}"
    return f"must be an integer from {low} to {high}"


def too_few(least: int) -> str:
    """What is said of an array with fewer than ``least`` items."""
    return f"must have at least {least} item{'s' if least > 1 else ''}"
