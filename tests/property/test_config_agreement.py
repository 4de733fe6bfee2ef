"""The fast reader and jsonschema, on our schema and on the official one, say the same of any document.

Outside of the agreement, because draft 4 knows nothing of them: members that stand twice, NaN and Infinity,
depth, and faults across members.
"""

from __future__ import annotations

import copy
import functools
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ocirun_spec.checker import check, escape
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from ocirun.cli.validate import by_jsonschema, draft4, validator
from ocirun.config import parse, read
from ocirun.config.positions import scan
from ocirun.config.rules import check_rules
from ocirun.errors import ConfigError
from tests.property.config_documents import ODD, Json, changed, everything, pointers, replaced, sound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.config import Check
    from ocirun.errors import Fault

RUNS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
DEBIAN = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema"


def told(judge: Check, value: Json) -> dict[str, str]:
    """The pointers and rules of the faults that a judge of the schema finds; at one place the first."""
    found: dict[str, str] = {}

    def broken(pointer: str, rule: str, _value: object) -> None:
        found.setdefault(pointer, rule)

    judge(value, broken, _ignore)
    return found


def _ignore(_pointer: str, _kind: str) -> None:
    """Unknown members are no faults."""


@RUNS
@given(sound())
def test_what_the_schema_admits_the_fast_checker_admits(document: Json) -> None:
    assert told(check, document) == {}
    assert told(by_jsonschema, document) == {}


@RUNS
@given(changed())
def test_the_fast_checker_finds_what_jsonschema_finds(document: Json) -> None:
    assert told(check, document) == told(by_jsonschema, document)


def test_the_document_with_everything_is_sound_and_deep() -> None:
    assert told(check, everything()) == {}
    assert len(pointers(everything())) > 250


@pytest.mark.parametrize("depth", range(9))
def test_each_member_refuses_and_admits_the_same_values_in_both(depth: int) -> None:
    for odd in ODD:
        document = replaced(everything(), depth, odd)
        assert told(check, document) == told(by_jsonschema, document), odd


@pytest.mark.parametrize("depth", range(9))
def test_the_rules_pass_over_wrong_types_wherever_they_are(depth: int) -> None:
    found: list[str] = []
    for odd in ODD:
        check_rules(replaced(everything(), depth, odd), lambda pointer, _rule, _hint: found.append(pointer))
    assert all(pointer.startswith("/") for pointer in found)


@RUNS
@given(changed())
def test_the_faults_told_by_read_hold_those_of_jsonschema(document: Json) -> None:
    wanted = told(by_jsonschema, document).items()
    faults = faults_of(json.dumps(document, indent=1).encode())
    assert wanted <= {(fault.pointer, fault.rule) for fault in faults}
    places = [(fault.line, fault.column) for fault in faults]
    assert places == sorted(places)
    assert all(line > 0 < column for line, column in places)


def faults_of(source: bytes) -> Sequence[Fault]:
    try:
        read(source)
    except ConfigError as error:
        return error.faults
    return ()


# -- the official schema ---------------------------------------------------------------------------------


def official_directory() -> Path | None:
    """Where the official schema is: from the environment, beside this repository, or Debian's."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "oci-runtime-spec"
    for place in (os.environ.get("OCI_RUNTIME_SPEC", ""), str(beside), DEBIAN):
        for directory in (Path(place), Path(place) / "schema"):
            if place and (directory / "config-schema.json").is_file():
                return directory
    return None


def official() -> Path:
    directory = official_directory()
    if directory is None:
        pytest.skip(
            "no official schema: set OCI_RUNTIME_SPEC, or install golang-github-opencontainers-specs-dev"
        )
    return directory


@functools.cache
def official_validator(directory: Path, name: str = "config-schema.json") -> Json:
    """Draft 4 on the official files; they have no "id" and refer to one another by file names."""
    make: Any = Resource
    start: Any = Registry
    registry: Any = start()
    for path in sorted(directory.glob("*.json")):
        registry = registry.with_resource(path.name, make(json.loads(path.read_text()), DRAFT4))
    judge: Any = draft4()
    resolver = registry.resolver(base_uri=name)
    return judge(registry.contents(name), registry=registry, _resolver=resolver)


def engines_words(document: Json) -> set[str]:
    """Where we admit what engines write and all peers take: a recursive word of propagation of the root, and
    the mode of a device with the kind of file in it."""
    linux = _at(document, "linux")
    recursive = ["rprivate", "rshared", "rslave", "runbindable"]
    admitted: set[str] = set()
    if _at(linux, "rootfsPropagation") in recursive:
        admitted.add("/linux/rootfsPropagation")
    if isinstance(_at(linux, "devices"), list):
        for number, device in enumerate(_at(linux, "devices")):
            mode = _at(device, "fileMode")
            if type(mode) is int and 0o777 < mode <= 0xFFFF:
                admitted.add(f"/linux/devices/{number}/fileMode")
    return admitted


def _at(value: Json, member: str) -> Json:
    return cast("dict[str, Json]", value).get(member) if isinstance(value, dict) else None


def official_pointers(directory: Path, document: Json) -> set[str]:
    """Where the official schema finds faults; of an anyOf with one choice, where that finds them."""
    found: set[str] = set()
    pending: list[Any] = list(official_validator(directory).iter_errors(_without_recursion(document)))
    while pending:
        error = pending.pop()
        pointer = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        if error.validator == "required":
            found |= {f"{pointer}/{name}" for name in error.validator_value if name not in error.instance}
        elif error.context:
            pending += error.context
        else:
            found.add(pointer)
    return found - engines_words(document)


def _without_recursion(document: Json) -> Json:
    """``document`` with the words for rootfsPropagation that the official schema knows: the others are what
    runc and crun take beside, and what Docker and containerd write."""
    changed_one: Json = copy.deepcopy(document)
    try:
        linux = changed_one["linux"]
        if linux["rootfsPropagation"] in ("rprivate", "rshared", "rslave", "runbindable"):
            linux["rootfsPropagation"] = linux["rootfsPropagation"][1:]
    except (KeyError, TypeError, IndexError):
        return document
    return changed_one


def current() -> Path:
    """The official schema if it is of 1.3."""
    directory = official()
    if "netDevices" not in (directory / "config-linux.json").read_text():
        pytest.skip("the official schema here is older than 1.3")
    return directory


@pytest.mark.parametrize("depth", range(9))
def test_each_member_refuses_and_admits_what_the_official_schema_does(depth: int) -> None:
    directory = current()
    for odd in ODD:
        document = replaced(everything(), depth, odd)
        assert told(check, document).keys() == official_pointers(directory, document), odd


@RUNS
@given(st.one_of(sound(), changed()))
def test_our_schema_agrees_with_the_official_one(document: Json) -> None:
    theirs = official_pointers(current(), document)
    assert validator().is_valid(document) == (not theirs)
    assert told(check, document).keys() == theirs


@pytest.mark.parametrize("verdict", ["good", "bad"])
def test_the_official_examples_are_judged_as_the_official_schema_does(verdict: str) -> None:
    directory = official()
    examples = sorted((directory / "test" / "config" / verdict).glob("*.json"))
    if not examples:
        pytest.skip("this copy of the official schema has no examples")
    for example in examples:
        value, is_sound = parse(example.read_bytes())
        if example.name.startswith("freebsd"):
            continue  # another system: not looked at here
        ours = is_sound and not told(check, value)
        assert ours == (verdict == "good"), example
        if is_sound:
            assert official_validator(directory).is_valid(value) == ours, example


def test_the_example_of_the_specification_is_read_but_for_its_version() -> None:
    path = official() / "test" / "config" / "good" / "spec-example.json"
    if not path.is_file():
        pytest.skip("this copy of the official schema has no examples")
    source = path.read_bytes().replace(b"0.5.0-dev", b"1.0.0")
    assert read(source).config["root"] == {"path": "rootfs", "readonly": True}


# -- two scanners ----------------------------------------------------------------------------------------

PIECES = st.sampled_from([
    "{", "}", "[", "]", ",", ":", '"', "'", "\\", "\\u0000", "\\ud83d", "\\ude00", "\\n", "0", "1", "-", ".",
    "e", "+", "01", "true", "null", "NaN", "Infinity", "-Infinity", " ", "\n", "\t", "//", "/*", "*/", "#",
    "a", '"a"', '"\\ud83d\\ude00"', "é", "\x00", "\x7f", "\ufeff",
])  # fmt: skip


@st.composite
def nearly_json(draw: st.DrawFn) -> str:
    """The text of a document with some pieces cut out and others put in."""
    document = draw(st.one_of(changed(), st.recursive(st.none(), st.lists)))
    text = json.dumps(document, indent=draw(st.sampled_from([None, 1])))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(st.one_of(st.just(""), PIECES)) + text[start + draw(st.integers(0, 2)) :]
    return text


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return type(one) is type(other) and one == other


@settings(RUNS, max_examples=400)
@given(st.one_of(nearly_json(), st.lists(PIECES, max_size=12).map("".join)))
def test_the_two_scanners_read_the_same_and_refuse_the_same(text: str) -> None:
    value, is_sound = parse(text.encode())
    places = scan(text, 512)
    if is_sound:
        assert places.whole
        assert places.faults == []
        assert same(places.value, value)
    elif "\\u" not in text:  # NUL and half surrogates are no matter of the syntax
        assert places.faults


@settings(RUNS, max_examples=300)
@given(st.one_of(st.binary(max_size=30), nearly_json().map(str.encode), st.text(max_size=20).map(str.encode)))
def test_reading_anything_gives_a_document_or_faults_with_places(source: bytes) -> None:
    faults = faults_of(source)
    assert all(fault.line > 0 < fault.column for fault in faults)
    assert faults or isinstance(read(source).config, dict)


@RUNS
@given(sound(), st.sampled_from([None, 0, 3]))
def test_every_value_has_its_place(document: Json, indent: int | None) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    places = scan(text, 512)
    lines = text.split("\n")
    for parts in pointers(document):
        line, column = places.place("".join(f"/{escape(str(part))}" for part in parts))
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        value, _ = json.JSONDecoder().raw_decode(rest)
        wanted = document
        for part in parts:
            wanted = wanted[part]
        assert same(value, wanted)
