"""The text format of GVariant, as far as properties of units are written in it."""

from __future__ import annotations

import pytest

from ocirun.gvariant import parse, quote


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("true", "b", True),
        ("false", "b", False),
        ("5", "i", 5),
        ("-5", "i", -5),
        ("0x1F", "i", 31),
        ("1.5", "d", 1.5),
        ("uint64 18446744073709551615", "t", (1 << 64) - 1),
        ("byte 0x0f", "y", 15),
        ("@q 7", "q", 7),
        ("double 2", "d", 2.0),
        (" 'inactive' ", "s", "inactive"),
        ('"it\'s"', "s", "it's"),
        (r"'a\'b\\c\n\u00e9'", "s", "a'b\\c\né"),
        ("objectpath '/a'", "o", "/a"),
        ("['a', 'b']", "as", ["a", "b"]),
        ("@as []", "as", []),
        ("[byte 1, 2]", "ay", b"\x01\x02"),
        ("@ay [255]", "ay", b"\xff"),
        ("[('/dev/null', 'rwm')]", "a(ss)", [("/dev/null", "rwm")]),
        ("@a(st) [('/x', 5)]", "a(st)", [("/x", 5)]),
        ("('a',)", "(s)", ("a",)),
        ("('a', uint32 7)", "(su)", ("a", 7)),
        ("{'a': <1>}", "a{sv}", {"a": ("i", 1)}),
        ("@a{sv} {}", "a{sv}", {}),
        ("<'x'>", "v", ("s", "x")),
    ],
)
def test_a_value_has_its_type(text: str, signature: str, value: object) -> None:
    assert parse(text) == (signature, value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no value"),
        ("nonsense", "has no value: 'nonsense'"),
        ("1 2", "has more after its value: '2'"),
        ("'open", "a text without its end"),
        ("2147483648", "outside of i"),
        ("uint64 -1", "outside of t"),
        ("uint64 'a'", "has a text where there must be a t"),
        ("string 5", "has a number where there must be a s"),
        ("int32 true", "has a boolean where there must be a i"),
        ("uint64 int32 5", "has a i where there must be a t"),
        ("[]", "an empty array without a type"),
        ("{}", "an empty dictionary without a type"),
        ("()", "has a tuple of ()"),
        ("[1, 'a']", "has a text where there must be a i"),
        ("@a(ss) [('a',)]", "has a tuple of (s) where there must be (ss)"),
        ("@as ('a',)", "has a tuple where there must be a as"),
        ("@s ['a']", "has an array where there must be a s"),
        ("@s {'a': 1}", "has a dictionary where there must be a s"),
        ("@s <1>", "has a variant where there must be a s"),
        ("{'a' 1}", "has no ':'"),
        ("['a' 'b']", "has no ','"),
        ("<1", "has no '>'"),
        ("@zz 1", "has no type in @zz"),
        ("@a{vs} {}", "has no type"),
        (f"@{'a' * 300}s []", "has no type"),
        ("[" * 100, "nested too deeply"),
        (r"'\uzzzz'", "has no character"),
        (r"'\U99999999'", "has no character"),
    ],
)
def test_what_is_no_value_says_why(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("text", ["plain", "it's", "back\\slash", "'", ""])
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    assert parse(quote(text)) == ("s", text)
