"""A Process object as a document of its own: its faults, its places, its pointers."""

from __future__ import annotations

import pytest

from ocirun.config import PROCESS, read
from ocirun.errors import ConfigError, Fault


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text.encode(), "p.json", PROCESS)
    return [f"{fault.line}:{fault.column} {fault.pointer}" for fault in caught.value.faults]


def test_a_sound_one_is_the_process_of_a_config() -> None:
    document = read(b'{"args": ["true"], "cwd": "/"}', "p.json", PROCESS)
    assert document.config.get("process") == {"args": ["true"], "cwd": "/"}
    assert document.warnings == ()


def test_schema_and_rules_point_into_the_file() -> None:
    text = '{"args": [],\n "user": {"uid": "x"},\n "rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]}'
    assert faults(text) == ["1:1 /cwd", "1:10 /args", "2:18 /user/uid", "3:45 /rlimits/0/soft"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"args": ["a\\u0000"], "cwd": "/"}', '{"args": ["a"], "cwd": "/", "cwd": "/"}'],
)
def test_what_is_no_process_is_a_fault(text: str) -> None:
    assert faults(text)


def test_a_misspelt_member_is_a_warning() -> None:
    document = read(b'{"args": ["true"], "cwd": "/",\n "terminl": true}', "p.json", PROCESS)
    (warning,) = document.warnings
    assert (warning.pointer, warning.line) == ("/terminl", 2)


def test_pointers_of_the_planner_become_those_of_the_file() -> None:
    document = read(b'{"args": ["true"],\n "cwd": "/nosuch"}', "p.json", PROCESS)
    assert document.place("/process/cwd") == (2, 9)
    fault = Fault("/process/cwd", "is wrong")
    document.locate(fault)
    assert (fault.pointer, fault.line) == ("/cwd", 2)
    error = ConfigError([Fault("/process/cwd", "is wrong")])
    document.locate(error)
    assert error.message.startswith("p.json:2:9 /cwd: ")
