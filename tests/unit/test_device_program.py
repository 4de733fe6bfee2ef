"""The device program, run by a small eBPF machine and held against a table that is written rule by rule."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.planner.device_program import ALL, MKNOD, READ, WRITE, Rule, access_bits, program
from ocirun.planner.devices import DEFAULT_RULES

TYPES = {"b": 1, "c": 2}
NUMBERS = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def interpret(code: bytes, access: int, kind: str, major: int, minor: int) -> int:
    """Runs ``code`` on one request, as the kernel would: eleven registers, the three words of the context."""
    context = (access << 16 | TYPES[kind]).to_bytes(4, "little")
    context += major.to_bytes(4, "little") + minor.to_bytes(4, "little")
    registers = [0] * 11
    at = 0
    while True:
        word = int.from_bytes(code[8 * at : 8 * at + 8], "little")
        operation, target, source = word & 0xFF, word >> 8 & 0xF, word >> 12 & 0xF
        offset, immediate = _signed(word >> 16 & 0xFFFF, 16), word >> 32
        at += 1
        match operation:
            case 0x61:
                assert source == 1, "the context is in r1"
                registers[target] = int.from_bytes(context[offset : offset + 4], "little")
            case 0xBC:
                registers[target] = registers[source] & 0xFFFFFFFF
            case 0xB4:
                registers[target] = immediate
            case 0x54:
                registers[target] = registers[target] & immediate
            case 0x74:
                registers[target] = (registers[target] & 0xFFFFFFFF) >> immediate
            case 0x56:
                at += offset if registers[target] & 0xFFFFFFFF != immediate else 0
            case 0x16:
                at += offset if registers[target] & 0xFFFFFFFF == immediate else 0
            case 0x95:
                return registers[0]
            case _:
                raise AssertionError(f"unknown operation {operation:#x}")


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def model(rules: list[Rule], access: int, kind: str, major: int, minor: int) -> int:
    """What the rules say, bit by bit: the last rule that names the device and the bit decides, else no."""
    for bit in (MKNOD, READ, WRITE):
        allowed = False
        for rule in rules:
            named = rule.kind in ("a", kind) and rule.major in (None, major) and rule.minor in (None, minor)
            if named and rule.access & bit:
                allowed = rule.allow
        if access & bit and not allowed:
            return 0
    return 1


a_number = st.sampled_from(NUMBERS)
a_rule = st.builds(
    Rule,
    st.booleans(),
    st.sampled_from("abc"),
    st.none() | a_number,
    st.none() | a_number,
    st.integers(min_value=1, max_value=ALL),
)


@given(
    st.lists(a_rule, max_size=12),
    st.integers(min_value=0, max_value=ALL),
    st.sampled_from("bc"),
    a_number,
    a_number,
)
def test_the_program_decides_as_the_rules_say(
    rules: list[Rule], access: int, kind: str, major: int, minor: int
) -> None:
    assert interpret(program(rules), access, kind, major, minor) == model(rules, access, kind, major, minor)


def test_without_a_rule_all_is_denied() -> None:
    code = program([])

    assert [interpret(code, access, "c", 1, 3) for access in (MKNOD, READ, WRITE, ALL)] == [0, 0, 0, 0]


def test_a_denied_letter_leaves_the_others_allowed() -> None:
    code = program([Rule(True, "c", 1, None, ALL), Rule(False, "c", 1, 8, WRITE)])

    assert interpret(code, READ, "c", 1, 8) == 1
    assert interpret(code, READ | WRITE, "c", 1, 8) == 0
    assert interpret(code, WRITE, "c", 1, 9) == 1


def test_letters_that_two_rules_allow_may_be_used_together() -> None:
    code = program([Rule(True, "b", 8, 0, READ), Rule(True, "b", 8, 0, WRITE)])

    assert interpret(code, READ | WRITE, "b", 8, 0) == 1
    assert interpret(code, READ | WRITE | MKNOD, "b", 8, 0) == 0


def test_rules_before_one_that_names_everything_cost_nothing() -> None:
    last = Rule(False, "a", None, None, ALL)

    assert program([Rule(True, "c", 1, 3, ALL), last]) == program([last])


def test_numbers_above_two_to_the_31_are_no_negative_ones() -> None:
    code = program([Rule(True, "c", 0xFFFFFFFF, 0x80000000, READ)])

    assert interpret(code, READ, "c", 0xFFFFFFFF, 0x80000000) == 1
    assert interpret(code, READ, "c", 0xFFFFFFFF, 0x7FFFFFFF) == 0


@pytest.mark.parametrize(
    ("kind", "major", "minor"), [("c", 1, 3), ("c", 5, 0), ("c", 136, 9), ("c", 5, 2), ("c", 10, 200)]
)
def test_the_default_rules_open_the_default_devices(kind: str, major: int, minor: int) -> None:
    assert (
        interpret(program([Rule(False, "a", None, None, ALL), *DEFAULT_RULES]), ALL, kind, major, minor) == 1
    )


def test_the_default_rules_let_a_disk_be_made_but_not_read() -> None:
    code = program(DEFAULT_RULES)

    verdicts = {access: interpret(code, access, "b", 8, 0) for access in (MKNOD, READ, WRITE)}
    assert verdicts == {MKNOD: 1, READ: 0, WRITE: 0}


def test_letters_become_bits() -> None:
    words = ["".join(letters) for letters in product("rwm", repeat=2)]

    assert access_bits("rwm") == ALL
    assert {word: access_bits(word) for word in ("r", "w", "m")} == {"r": READ, "w": WRITE, "m": MKNOD}
    assert all(access_bits(word) == access_bits(word[0]) | access_bits(word[1]) for word in words)
    assert [access_bits(word) for word in ("", "x", "rx")] == [0, 0, 0]
