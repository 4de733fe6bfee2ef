"""What is generated from the schema is fresh and means what the schema says."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocirun_spec import checker, types
from ocirun_spec.generate import HERE, Schema, generated, load
from ocirun_spec.members import MEMBERS
from ocirun_spec.patterns import parse, predicate


def patterns() -> list[str]:
    with open(os.path.join(HERE, "config-schema.json"), encoding="utf-8") as file:
        return sorted({json.loads(found) for found in re.findall(r'"pattern": ("[^"]*")', file.read())})


@pytest.mark.parametrize("name", sorted(generated()))
def test_the_committed_file_is_what_the_generator_writes(name: str) -> None:
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        assert file.read() == generated()[name], "run python -m ocirun_spec.generate"


@pytest.mark.parametrize("name", ["config-schema.json", "state-schema.json"])
def test_a_schema_is_a_schema_of_draft_4(name: str) -> None:
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        jsonschema.Draft4Validator.check_schema(json.load(file))


def test_every_member_is_described_without_a_full_stop() -> None:
    for kind, node in load().objects():
        for member, child in node["properties"].items():
            assert child.get("description"), f"{kind}.{member}"
            assert not child["description"].endswith("."), f"{kind}.{member}"


def test_every_object_has_a_type_with_its_members() -> None:
    for kind, members in MEMBERS.items():
        assert set(getattr(types, kind).__annotations__) == set(members)


def test_members_that_the_schema_or_the_rules_require_are_required_in_the_types() -> None:
    assert "NotRequired" not in str(types.Config.__annotations__["root"])
    assert "NotRequired" in str(types.Config.__annotations__["process"])
    assert "NotRequired" not in str(types.Process.__annotations__["args"])


SAMPLES = st.text(alphabet="RLIMIT_AZaz09cbupKMGB:, -\n1[", max_size=12)


@pytest.mark.parametrize("pattern", patterns())
@settings(deadline=None)
@given(text=st.one_of(SAMPLES, st.text(max_size=5)), data=st.data())
def test_a_pattern_in_plain_python_is_the_pattern(pattern: str, text: str, data: st.DataObject) -> None:
    number = sorted(name for name in dir(checker) if name.startswith("_pattern_"))
    matcher = next(
        getattr(checker, name) for name in number if f"``{pattern}``" in getattr(checker, name).__doc__
    )
    whole = pattern.removesuffix("$") + r"\Z"
    matching = data.draw(st.from_regex(whole))
    for sample in (text, matching, matching + "\n", matching[1:]):
        assert matcher(sample) == bool(re.search(whole, sample)), sample


@pytest.mark.parametrize("pattern", ["a$", "^a", "^(a)$", "^a|b$", "^a*b*$", "^[^ab]*$", "^.$", r"^\d$"])
def test_a_pattern_beyond_the_subset_ends_the_generator(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"understood|plain Python|more than one|one character"):
        predicate(pattern, "x")


def test_a_pattern_is_taken_apart() -> None:
    atoms = parse("^x[a-c]+$")
    assert [(atom.characters, atom.negated, atom.repeat) for atom in atoms] == [
        ("x", False, ""),
        ("abc", False, "+"),
    ]


@pytest.mark.parametrize(
    "node",
    [
        {"type": "string", "maxLength": 3},
        {"type": "array", "items": {"oneOf": []}},
        {"$ref": "#", "type": "string"},
    ],
)
def test_a_keyword_beyond_the_subset_ends_the_generator(node: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not understood|beside \$ref"):
        Schema({"definitions": {"Config": {"type": "object", "properties": {"x": node}}}})
