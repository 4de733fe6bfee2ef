"""What a refused step and a failed execve are told as."""

from __future__ import annotations

import errno

import pytest

from ocirun.executor.explain import HINTS, failed_exec
from ocirun.plan.steps import VERBS


def _elf(machine: int, interpreter: bytes = b"") -> bytes:
    head = bytearray(64 + 56)
    head[:6] = b"\x7fELF\x02\x01"
    head[18:20] = machine.to_bytes(2, "little")
    head[32:40] = (64).to_bytes(8, "little")
    head[54:56], head[56:58] = (56).to_bytes(2, "little"), (1).to_bytes(2, "little")
    head[64:68] = (3).to_bytes(4, "little")
    head[72:80] = len(head).to_bytes(8, "little")
    head[96:104] = (len(interpreter) + 1).to_bytes(8, "little")
    return bytes(head) + interpreter + b"\0"


@pytest.mark.parametrize(
    ("number", "head", "hint"),
    [
        (
            errno.ENOENT,
            b"#!/usr/bin/perl -w\nprint 1",
            "interpreter /usr/bin/perl, which is not in the image",
        ),
        (errno.ENOENT, b"#! /bin/sh\r\necho", "CR LF"),
        (errno.ENOENT, _elf(62, b"/lib64/ld-linux-x86-64.so.2"), "loader /lib64/ld-linux-x86-64.so.2"),
        (errno.ENOEXEC, _elf(183), "for aarch64"),
        (errno.ENOEXEC, b"", "empty"),
        (errno.ENOEXEC, b"echo hello\n", "neither an ELF program nor a script"),
        (errno.EACCES, b"#!/opt/tool\n", "/opt/tool"),
    ],
)
def test_the_head_of_the_file_tells_why_it_could_not_be_executed(number: int, head: bytes, hint: str) -> None:
    error = failed_exec("/app", number, head)
    assert hint in error.hint
    assert error.errno == number
    assert error.pointer == "/process/args/0"


def test_a_cut_off_or_hostile_head_is_no_trouble() -> None:
    whole = _elf(62, b"/lib/ld.so")
    for end in range(len(whole)):
        assert failed_exec("/app", errno.ENOENT, whole[:end]).errno == errno.ENOENT
    failed_exec("/app", errno.ENOENT, b"\x7fELF\x02\x01" + b"\xff" * 1000)


def test_hints_name_verbs_that_exist() -> None:
    assert {verb for verb, _ in HINTS if verb} <= set(VERBS)
