"""Generate types.py, checker.py and members.py from config-schema.json.

Run ``python -m ocirun_spec.generate``; what it writes is committed, and a test compares it with a fresh run.
Only the keywords that the schema uses are understood; any other ends the run with a KeyError or ValueError,
so that no rule can be written into the schema and silently not be checked.
"""

from __future__ import annotations

import json
import keyword
import os
from typing import Any

from ocirun_spec.patterns import predicate
from ocirun_spec.wording import REQUIRED, rule_of, too_few

Node = dict[str, Any]

HERE = os.path.dirname(os.path.abspath(__file__))
KEYWORDS = {
    "type", "properties", "required", "items", "enum", "pattern", "minimum", "maximum", "minItems",
    "additionalProperties", "patternProperties", "description", "x-rule", "x-promised",
}  # fmt: skip
NOTICE = "Generated from config-schema.json by ocirun_spec.generate: do not edit."


class Schema:
    """The definitions of config-schema.json, with every ``$ref`` looked up on demand."""

    def __init__(self, document: Node) -> None:
        self.definitions: dict[str, Node] = document["definitions"]
        for node in self.definitions.values():
            _admit(node)

    def resolve(self, node: Node) -> Node:
        """``node`` itself, or what its ``$ref`` names."""
        return self.definitions[self.name(node)] if "$ref" in node else node

    def name(self, node: Node) -> str:
        """The name of the definition that ``node`` refers to, "" for a node that stands for itself."""
        return str(node["$ref"]).removeprefix("#/definitions/") if "$ref" in node else ""

    def objects(self) -> list[tuple[str, Node]]:
        """The definitions with members of known names, in the order of the schema."""
        return [(name, node) for name, node in self.definitions.items() if "properties" in node]


def _admit(node: Node) -> None:
    if "$ref" in node:
        if node.keys() - {"$ref", "description"}:
            raise ValueError(f"draft 4 ignores what stands beside $ref: {node}")
        return
    if node.keys() - KEYWORDS:
        raise ValueError(f"keywords that are not understood: {sorted(node.keys() - KEYWORDS)}")
    inner = [*node.get("properties", {}).values(), *node.get("patternProperties", {}).values()]
    inner += [node[key] for key in ("items", "additionalProperties") if key in node]
    for child in inner:
        _admit(child)


def load() -> Schema:
    """Read config-schema.json; raises ValueError for a keyword that the generator does not understand."""
    with open(os.path.join(HERE, "config-schema.json"), encoding="utf-8") as file:
        return Schema(json.load(file))


def generated() -> dict[str, str]:
    """What each generated file must contain, by its name."""
    schema = load()
    return {"types.py": _types(schema), "checker.py": Checker(schema).text(), "members.py": _members(schema)}


def main() -> None:
    """Write the generated files beside the schema."""
    for name, text in generated().items():
        with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
            file.write(text)


# -- types.py ------------------------------------------------------------------------------------------------


def _types(schema: Schema) -> str:
    lines = [
        '"""The members of config.json as types, for use under TYPE_CHECKING.',
        "",
        NOTICE,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Literal, NotRequired, TypedDict",
    ]
    aliases = [(name, node) for name, node in schema.definitions.items() if "enum" in node]
    lines += ["", *(line for name, node in aliases for line in _alias(name, node))]
    for name, node in schema.objects():
        lines += ["", "", *_typed_dict(schema, name, node)]
    return "\n".join(lines) + "\n"


def _alias(name: str, node: Node) -> list[str]:
    return [f"{name} = Literal[", *(f'    "{value}",' for value in node["enum"]), "]"]


def _typed_dict(schema: Schema, name: str, node: Node) -> list[str]:
    needed = {*node.get("required", ()), *node.get("x-promised", ())}
    members: list[tuple[str, str, str]] = []
    for member, child in node["properties"].items():
        kind = _type(schema, child)
        members.append((member, kind if member in needed else f"NotRequired[{kind}]", child["description"]))
    if any(keyword.iskeyword(member) for member, _, _ in members):
        body = [line for m, k, d in members for line in (f"        # {d}", f'        "{m}": {k},')]
        return [f"{name} = TypedDict(", f'    "{name}",', "    {", *body, "    },", ")"]
    return [
        f"class {name}(TypedDict):",
        *(line for m, k, d in members for line in (f"    #: {d}", f"    {m}: {k}")),
    ]


def _type(schema: Schema, node: Node) -> str:
    name, node = schema.name(node), schema.resolve(node)
    if "properties" in node or ("enum" in node and name):
        return name
    if "enum" in node:
        return "Literal[" + ", ".join(f'"{value}"' for value in node["enum"]) + "]"
    if node["type"] == "array":
        return f"list[{_type(schema, node['items'])}]"
    if node["type"] == "object":
        values = _values(node)
        return f"dict[str, {_type(schema, values) if values else 'object'}]"
    return {"string": "str", "integer": "int", "boolean": "bool"}[node["type"]]


def _values(node: Node) -> Node | None:
    """What the values of a map must be, None where they may be anything."""
    if "patternProperties" in node:
        # "." admits every name with a character other than a newline: the checker writes that out by hand
        if list(node["patternProperties"]) != ["."]:
            raise ValueError(f"patternProperties knows the pattern . only: {node}")
        return dict(node["patternProperties"]["."])
    return dict(node["additionalProperties"]) if "additionalProperties" in node else None


# -- members.py ----------------------------------------------------------------------------------------------


def _members(schema: Schema) -> str:
    lines = [
        '"""The known members of every object of config.json, and what each is.',
        "",
        NOTICE,
        "",
        "A member is (what it holds, description).  It holds a name of MEMBERS for an object of that kind, a",
        'name after "[" for an array of such and after "{" for a map to such; "" for a plain value or a map',
        "of them.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "MEMBERS: dict[str, dict[str, tuple[str, str]]] = {",
    ]
    for name, node in schema.objects():
        lines.append(f'    "{name}": {{')
        for member, child in node["properties"].items():
            description = _quote(child["description"])
            lines.append(f'        "{member}": ("{_holds(schema, child)}", {description}),')
        lines.append("    },")
    return "\n".join([*lines, "}"]) + "\n"


def _holds(schema: Schema, node: Node) -> str:
    name, node = schema.name(node), schema.resolve(node)
    if "properties" in node:
        return name
    if node["type"] == "array":
        inner = _holds(schema, node["items"])
        return f"[{inner}" if inner else ""
    values = _values(node) if node["type"] == "object" else None
    inner = _holds(schema, values) if values else ""
    return f"{{{inner}" if inner else ""


def _quote(text: str) -> str:
    return "'" + text + "'" if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)


# -- checker.py ----------------------------------------------------------------------------------------------

HEAD = f'''"""Check a parsed config.json against the schema, in plain Python without imports.

{NOTICE}

Every function takes a value and its JSON pointer.  It calls ``fault(pointer, rule, value)`` for each rule
broken and ``unknown(pointer, kind)`` for each object with a member outside the schema; ``kind`` is a key of
``members.MEMBERS``.  An absent member that is required is told with the pointer it would have, and None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
    Fault = Callable[[str, str, "Json"], None]
    Unknown = Callable[[str, str], None]


def check(config: Json, fault: Fault, unknown: Unknown) -> None:
    """Report every fault and every object with unknown members of ``config``, a whole config.json."""
    _config(config, "", fault, unknown)


def check_process(process: Json, fault: Fault, unknown: Unknown) -> None:
    """The same for the Process object of an exec, which stands for itself: its pointers begin there."""
    _process(process, "", fault, unknown)


def escape(name: str) -> str:
    """``name`` as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
'''


class Checker:
    """Writes checker.py: one function for each object, array and map of the schema."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.constants: dict[str, str] = {}
        self.functions: dict[str, list[str]] = {}
        self.nodes: dict[str, Node] = {}
        self.patterns: dict[str, str] = {}

    def text(self) -> str:
        """The whole module."""
        self._function("Config", self.schema.definitions["Config"])
        constants = [f"{name} = {value}" for name, value in self.constants.items()]
        bodies = [_matcher(name, pattern) for pattern, name in self.patterns.items()]
        bodies += ["\n".join(lines) for lines in self.functions.values()]
        return "\n\n".join([HEAD + "\n" + "\n".join(constants) + "\n", *(f"{body}\n" for body in bodies)])

    def _function(self, name: str, node: Node) -> str:
        """Write the function for ``node`` once; gives its name."""
        called = "_" + _snake(name)
        if self.nodes.setdefault(called, node) != node:
            raise ValueError(f"two different definitions would be called {called}")
        if called not in self.functions:
            kind = "dict" if node["type"] == "object" else "list"
            self.functions[called] = []
            body = self._object(name, node) if kind == "dict" else self._array(name, node)
            noun = rule_of({"type": node["type"]})
            self.functions[called] = [
                f"def {called}(v: Json, p: str, fault: Fault, unknown: Unknown) -> None:",
                f"    if not isinstance(v, {kind}):",
                f'        fault(p, "{noun}", v)',
                *(["        return", *body] if body else []),
            ]
        return called

    def _object(self, name: str, node: Node) -> list[str]:
        if "properties" in node:
            return self._members(name, node)
        values = _values(node)
        return self._map(name, node, values) if values else []

    def _map(self, name: str, node: Node, values: Node) -> list[str]:
        guard = 'm.strip("\\n") and ' if "patternProperties" in node else ""
        lines = ["    for m, x in v.items():"]
        plain = self._scalar(values, "x")
        if plain:
            action = f'            fault(f"{{p}}/{{escape(m)}}", {plain[1]}, x)'
            return [*lines, f"        if {guard}not ({plain[0]}):", action]
        if guard:
            raise ValueError(f"{name}: patternProperties of plain values only")
        called = self._function(*self._named(name, values))
        return [*lines, f'        {called}(x, f"{{p}}/{{escape(m)}}", fault, unknown)']

    def _array(self, name: str, node: Node) -> list[str]:
        lines: list[str] = []
        if "minItems" in node:
            lines += [
                f"    if len(v) < {node['minItems']}:",
                f'        fault(p, "{too_few(node["minItems"])}", v)',
            ]
        lines += ["    for i, x in enumerate(v):"]
        plain = self._scalar(node["items"], "x")
        if plain:
            return [
                *lines,
                f"        if not ({plain[0]}):",
                f'            fault(f"{{p}}/{{i}}", {plain[1]}, x)',
            ]
        called = self._function(*self._named(name, node["items"]))
        return [*lines, f'        {called}(x, f"{{p}}/{{i}}", fault, unknown)']

    def _pattern(self, pattern: str) -> str:
        """The name of the function that stands for ``pattern``."""
        return self.patterns.setdefault(pattern, f"_pattern_{len(self.patterns) + 1}")

    def _members(self, name: str, node: Node) -> list[str]:
        known = "_OF_" + _snake(name).upper()
        self.constants[known] = _frozenset(list(node["properties"]))
        lines = [f"    if not v.keys() <= {known}:", f'        unknown(p, "{name}")']
        lines += self._required(node.get("required", []))
        for check, members in self._grouped(name, node["properties"]).items():
            lines += _each(members, check)
        return lines

    def _required(self, members: list[str]) -> list[str]:
        if not members:
            return []
        return _loop(members, "not in", [f'fault(f"{{p}}/{{m}}", "{REQUIRED}", None)'])

    def _grouped(self, name: str, properties: Node) -> dict[tuple[str, ...], list[str]]:
        """Members that are checked the same way, together: the lines of the check, then their names."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for member, child in properties.items():
            plain = self._scalar(child, "v[m]")
            if plain:
                groups.setdefault(plain, []).append(member)
            else:
                called = self._function(*self._named(f"{name}_{member}", child))
                groups.setdefault((called,), []).append(member)
        return groups

    def _named(self, outer: str, node: Node) -> tuple[str, Node]:
        return self.schema.name(node) or self._list_name(outer, node), self.schema.resolve(node)

    def _list_name(self, outer: str, node: Node) -> str:
        inner = self.schema.name(node.get("items") or _values(node) or {})
        if not inner:
            return outer
        return f"{inner}s" if node["type"] == "array" else f"{inner}_map"

    def _scalar(self, node: Node, value: str) -> tuple[str, str] | None:
        """The condition a plain value must fulfil and its rule as Python text; None for objects and
        arrays."""
        name, node = self.schema.name(node), self.schema.resolve(node)
        if node["type"] in ("object", "array"):
            return None
        rule = _quote(rule_of(node))
        if "enum" in node:
            constant = "_" + _snake(name or node["enum"][0]).upper()
            self.constants[constant] = _ordered(node["enum"])
            rule = f'"must be one of " + ", ".join({constant})'
            return f"isinstance({_let(value)}, str) and x in {constant}", rule
        if "pattern" in node:
            return f"isinstance({_let(value)}, str) and {self._pattern(node['pattern'])}(x)", rule
        return _plain(node, value), rule


def _matcher(name: str, pattern: str) -> str:
    shown = pattern.replace("\\", "\\\\")
    conditions = predicate(pattern, "x").split(" and ")
    lines = [f"def {name}(x: str) -> bool:", f'    """Whether ``{shown}`` matches."""']
    if len(conditions) == 1:
        return "\n".join([*lines, f"    return {conditions[0]}"])
    body = [f"        {'and ' if index else ''}{condition}" for index, condition in enumerate(conditions)]
    return "\n".join([*lines, "    return (", *body, "    )"])


def _let(value: str) -> str:
    return value if value == "x" else f"x := {value}"


def _plain(node: Node, value: str) -> str:
    if node["type"] != "integer":
        return f"isinstance({value}, {'str' if node['type'] == 'string' else 'bool'})"
    if "minimum" not in node:
        # true is an int of Python but no integer of JSON
        return f"isinstance({_let(value)}, int) and x is not True and x is not False"
    bounds = f"{node['minimum']} <= x" + (f" <= {node['maximum']}" if "maximum" in node else "")
    return f"type({_let(value)}) is int and {bounds}"


def _each(members: list[str], check: tuple[str, ...]) -> list[str]:
    if len(check) == 1:
        return _loop(members, "in", [f'{check[0]}(v[m], f"{{p}}/{{m}}", fault, unknown)'])
    return _loop(members, f"in v and not ({check[0]})", [f'fault(f"{{p}}/{{m}}", {check[1]}, v[m])'])


def _loop(members: list[str], test: str, action: list[str]) -> list[str]:
    test = test if " v " in test else f"{test} v"
    if len(members) == 1:
        one = f'"{members[0]}"'
        lines = [f"    if {one} {test}:", *(f"        {line}" for line in action)]
        return [line.replace("{m}", members[0]).replace("[m]", f"[{one}]") for line in lines]
    names = ", ".join(f'"{member}"' for member in members)
    head = f"    for m in ({names}):"
    if len(head) > 110:
        head = "\n".join(["    for m in (", *(f'        "{member}",' for member in members), "    ):"])
    return [head, f"        if m {test}:", *(f"            {line}" for line in action)]


def _frozenset(names: list[str]) -> str:
    return "frozenset({" + _wrapped(names) + "})"


def _ordered(names: list[str]) -> str:
    return "dict.fromkeys([" + _wrapped(names) + "])"


def _wrapped(names: list[str]) -> str:
    quoted = [f'"{name}",' for name in names]
    if sum(map(len, quoted)) < 70:
        return " ".join(quoted).removesuffix(",")
    lines = [""]
    for name in quoted:
        if len(lines[-1]) + len(name) > 100:
            lines.append("")
        lines[-1] += f" {name}" if lines[-1] else name
    return "\n" + "".join(f"    {line}\n" for line in lines)


def _snake(name: str) -> str:
    words = ""
    for index, letter in enumerate(name):
        after_lower = index > 0 and name[index - 1].islower()
        before_lower = index > 0 and name[index + 1 : index + 2].islower() and name[index - 1] != "_"
        words += "_" + letter if letter.isupper() and (after_lower or before_lower) else letter
    return words.lower()


if __name__ == "__main__":
    main()
