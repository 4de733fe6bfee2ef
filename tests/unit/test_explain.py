"""What a refused step and a failed execve are told as."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from ocirun.executor.binary import Head
from ocirun.executor.explain import HINTS, said_by_hook
from ocirun.executor.program import failed_exec
from ocirun.plan.steps import VERBS
from ocirun.walk import shown


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


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b" sorry\n", "sorry"),
        (b"a\tb\r\n\nc", "a\tb\n\nc"),
        (b"\0\0", r"\x00\x00"),
        (b"\x1b[2J\xff caf\xc3\xa9 \xe2\x80\xae!", "\\x1b[2J\ufffd caf\u00e9 \\u202e!"),
        (b"first\n" + b"y\n" * 2000, "\n".join("y" * 10)),
        (b"x" * 9000, "x" * 4096),
        (b" \n", ""),
    ],
)
def test_what_a_hook_printed_is_fit_for_a_terminal(tail: bytes, said: str) -> None:
    assert said_by_hook(tail) == said


def test_hints_name_verbs_that_exist() -> None:
    assert {verb for verb, _ in HINTS if verb} <= set(VERBS)


def _small(machine: int, order: str, interpreter: bytes) -> bytes:
    """A program of 32 bits with a loader."""
    head = bytearray(52 + 32)
    head[:6] = b"\x7fELF\x01" + (b"\x02" if order == "big" else b"\x01")
    numbers = ((18, 2, machine), (28, 4, 52), (42, 2, 32), (44, 2, 1), (52, 4, 3), (56, 4, len(head)))
    for at, size, value in (*numbers, (68, 4, len(interpreter) + 1)):
        head[at : at + size] = value.to_bytes(size, "big" if order == "big" else "little")
    return bytes(head) + interpreter + b"\0"


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_loader_of_a_program_of_32_bits_in_either_order(order: str) -> None:
    head = Head(_small(8, order, b"/lib/ld.so.1"))
    assert (head.interpreter, head.machine, head.bits) == ("/lib/ld.so.1", "mips", 32)


@pytest.mark.parametrize(
    ("here", "head", "told"),
    [
        ("x86_64", _elf(62), ""),
        ("x86_64", _elf(183), "aarch64 (64 bits), this host is x86_64"),
        ("x86_64", _small(3, "little", b""), "without support for 32 bits"),
        ("x86_64", _small(62, "little", b""), "x86_64 (32 bits), this host is"),
        ("i686", _small(3, "little", b""), ""),
        ("i686", _elf(62), "this host is i686"),
        ("aarch64", _small(40, "little", b""), "without support for 32 bits"),
        ("armv7l", _small(40, "little", b""), ""),
        ("armv7l", _small(40, "big", b""), "(32 bits, big-endian)"),
        ("x86_64", _elf(4711), "the machine with the number 4711"),
    ],
)
def test_what_is_foreign(here: str, head: bytes, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine=here))
    reason = Head(head).foreign()
    assert told in reason
    assert bool(told) == bool(reason)


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ETXTBSY, "program-busy", "text file busy (ETXTBSY)"),
        (errno.ENOMEM, "program-not-executable", "cannot allocate memory (ENOMEM)"),
        (errno.EPERM, "program-not-executable", "operation not permitted (EPERM)"),
        (errno.ELIBBAD, "program-format", "corrupted shared library (ELIBBAD)"),
    ],
)
def test_other_refusals_have_words_and_a_symbol(number: int, code: str, words: str) -> None:
    error = failed_exec("/app", number, b"")
    assert error.code == code
    assert words in error.message
    assert error.hint


def test_what_an_image_says_cannot_write_to_a_terminal() -> None:
    hostile = b"#!/bin/\x1b[2J\xe2\x80\xaeevil\n"
    assert "/bin/\\x1b[2J\\u202eevil" in failed_exec("/app", errno.ENOENT, hostile).hint
    assert len(shown("x" * 5000)) == 301
