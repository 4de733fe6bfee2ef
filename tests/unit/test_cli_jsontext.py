"""JSON text without the json package equals what the json package does."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.jsontext import dumps, loads

ROOT = Path(__file__).parents[2]

_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(_VALUES)
def test_compact_text_is_that_of_json(value: object) -> None:
    assert dumps(value) == json.dumps(value, separators=(",", ":"))


@given(_VALUES, st.sampled_from([1, 2, 4, "\t"]))
def test_indented_text_is_that_of_json(value: object, indent: int | str) -> None:
    assert dumps(value, indent) == json.dumps(value, indent=indent)


@given(_VALUES, st.sampled_from([None, 2]))
def test_what_is_read_is_what_json_reads(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert loads(text) == loads(f" \n{text}\t\r".encode()) == json.loads(text)


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsnN \\u', max_size=12))
def test_what_json_refuses_is_refused(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=_refuse)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - the words are those of two parsers
            loads(text)
    else:
        assert loads(text) == expected


def _refuse(name: str) -> None:
    raise ValueError(name)


@pytest.mark.parametrize(
    "text", ["", "  ", "NaN", "-Infinity", "{} x", "[1,]", '{"a"}', "\ufeff1", "[" * 200_000]
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@pytest.mark.parametrize("key", [None, True, 3, 1.5])
@pytest.mark.parametrize("indent", [0, 2])
def test_keys_that_are_no_text_become_text(key: object, indent: int) -> None:
    assert dumps({key: [key]}, indent) == json.dumps(
        {key: [key]}, separators=None if indent else (",", ":"), indent=indent or None
    )


@pytest.mark.parametrize("indent", [0, 2])
def test_tuples_are_arrays(indent: int) -> None:
    assert json.loads(dumps({"a": (1, ("x",), ())}, indent)) == {"a": [1, ["x"], []]}


@pytest.mark.parametrize("indent", [0, 2])
def test_bytes_that_are_no_utf_8_survive_as_escapes(indent: int) -> None:
    path = os.fsdecode(b"/a\xff\xc3\xa9")
    text = dumps([path], indent)
    assert text.isascii()
    assert loads(text) == [path]


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_nan_and_infinity_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps(value, 2)


@pytest.mark.parametrize("value", [b"x", object(), {"a": {1}}, {(1,): 2}])
@pytest.mark.parametrize("indent", [0, 2])
def test_what_json_has_no_form_for_is_a_type_error(value: object, indent: int) -> None:
    with pytest.raises(TypeError):
        dumps(value, indent)


@pytest.mark.parametrize("indent", [0, 2])
def test_a_value_that_holds_itself_is_a_value_error(indent: int) -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(ValueError, match="nested too deeply"):
        dumps(value, indent)


def test_neither_json_nor_re_is_imported() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from ocirun.jsontext import loads, dumps;"
        "loads(dumps({'a': [1.5, None]}, 2));"
        "sys.exit(bool({'json', 're', 'enum'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(ROOT)], check=True)
