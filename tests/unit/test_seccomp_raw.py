"""Ready-made filters: what is taken for one, and what is told of it."""

from __future__ import annotations

import base64
import errno
import struct
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.seccomp.listing import listing
from ocirun.seccomp.raw import KNOWN, MOST, check, decoded, may_ask, raw_filter
from ocirun.seccomp.tables import ACTIONS

ALLOW, NOTIFY = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_NOTIFY"]
RETURN: tuple[int, int, int, int] = (0x06, 0, 0, ALLOW)
NOP: tuple[int, int, int, int] = (0x05, 0, 0, 0)


def program(*code: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *one) for one in code)


@given(st.binary(max_size=100))
def test_base64_gives_the_bytes_that_went_in(content: bytes) -> None:
    assert decoded(base64.b64encode(content).decode()) == content


@pytest.mark.parametrize(
    "text", ["A", "AA", "AAA", "AA=", "A===", "====", "AAAA\n", "AA A", "AA-A", "é===", "A=AA"]
)
def test_what_is_no_base64_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="must be base64"):
        decoded(text)


REFUSED: list[tuple[Sequence[tuple[int, int, int, int]], str]] = [
    ([], "must not be empty"),
    ([*[NOP] * MOST, RETURN], "no more than 4096 instructions, and has 4097"),
    ([NOP], "instruction 0 jumps beyond the end"),
    ([RETURN, (0x04, 0, 0, 1)], "must end with a return"),
    ([(0x28, 0, 0, 0), RETURN], "instruction 0 is none of a filter: 0x28"),
    ([(0x94, 0, 0, 3), RETURN], "instruction 0 is none of a filter: 0x94"),
    ([NOP, (0x20, 0, 0, 64), RETURN], "instruction 1 loads no word of struct seccomp_data: 64"),
    ([(0x20, 0, 0, 2), RETURN], "loads no word of struct seccomp_data: 2"),
    ([(0x02, 0, 0, 16), RETURN], "names no word of memory: 16"),
    ([(0x15, 1, 0, 0), RETURN], "instruction 0 jumps beyond the end"),
    ([(0x15, 0, 1, 0), RETURN], "instruction 0 jumps beyond the end"),
    ([(0x05, 0, 0, 0xFFFFFFFF), RETURN], "instruction 0 jumps beyond the end"),
    ([(0x34, 0, 0, 0), RETURN], "divides by 0"),
    ([(0x64, 0, 0, 32), RETURN], "shifts by more than 31"),
]
TAKEN = [
    [RETURN],
    [*[NOP] * (MOST - 1), RETURN],
    [(0x15, 0, 1, 5), (0x02, 0, 0, 15), (0x64, 0, 0, 31), (0x34, 0, 0, 1), (0x87, 0, 0, 0), RETURN],
    [*((code, 0, 0, 1) for code in sorted(KNOWN - {0x20, 0x60, 0x61, 0x06, 0x16})),
     (0x20, 0, 0, 60), (0x60, 0, 0, 1), (0x61, 0, 0, 1), NOP, RETURN],
]  # fmt: skip
#: Loads the filters that it is given, each in a process of its own, and tells what seccomp(2) says.
_LOADER = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
for text in sys.stdin.read().splitlines():
    code = ctypes.create_string_buffer(bytes.fromhex(text.strip()), len(text) // 2 + 1)
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(text) // 16, ctypes.addressof(code)))
    if not (pid := os.fork()):
        libc.prctl(38, 1, 0, 0, 0)
        os._exit(ctypes.get_errno() if libc.prctl(22, 2, whole) else 0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(("code", "told"), REFUSED)
def test_what_the_kernel_would_refuse_is_told(code: Sequence[tuple[int, int, int, int]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check(program(*code))


def test_the_kernel_is_asked_whether_it_refuses_these_and_takes_those() -> None:
    for code in TAKEN:
        check(program(*code))
    every = [code for code, _ in REFUSED] + TAKEN
    told = subprocess.run(
        [sys.executable, "-c", _LOADER],
        input="\n".join(program(*code).hex() for code in every if code),
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert told == [str(errno.EINVAL)] * (len(REFUSED) - 1) + ["0"] * len(TAKEN)


def test_a_filter_may_ask_that_says_so_or_computes_its_answer() -> None:
    assert may_ask(program((0x06, 0, 0, NOTIFY), RETURN))
    assert may_ask(program((0x16, 0, 0, 0)))
    assert not may_ask(program((0x00, 0, 0, NOTIFY), RETURN))


def test_what_is_wrong_has_the_place_of_the_annotation() -> None:
    made = raw_filter("!")
    assert (made.place, made.program) == ("/annotations/run.oci.seccomp_bpf_data", b"")
    assert made.wrong
    sound = raw_filter(base64.b64encode(program(NOP, RETURN)).decode())
    assert (sound.program, sound.rules, sound.wrong) == (program(NOP, RETURN), 2, "")


def test_the_listing_names_what_the_kernel_names() -> None:
    low, high = (16, 20) if sys.byteorder == "little" else (20, 16)
    code = [
        (0x20, 0, 0, 4), (0x15, 0, 2, 0xC000003E), (0x20, 0, 0, 0), (0x35, 0, 1, 0x40000000), (0x05, 0, 0, 1),
        (0x1D, 1, 0, 0), (0x20, 0, 0, low), (0x54, 0, 0, 4095), (0x0C, 0, 0, 0), (0x07, 0, 0, 0),
        (0x61, 0, 0, 3), (0x20, 0, 0, high), (0x45, 0, 0, 1), (0x06, 0, 0, 0x50000 | errno.EPERM),
        (0x06, 0, 0, 0), (0x06, 0, 0, 0x7FF00007), (0x06, 0, 0, 0x12340000), (0x16, 0, 0, 0),
    ]  # fmt: skip
    check(program(*code))
    assert [int(line[:4]) for line in listing(program(*code))] == [*range(len(code))]
    assert [line[6:] for line in listing(program(*code))] == [
        "A = arch", "if A == x86_64 goto 2 else 4", "A = nr", "if A >= 0x40000000 goto 4 else 5", "goto 6",
        "if A == X goto 7 else 6", "A = args[0] low", "A = A & 4095", "A = A + X", "X = A", "X = M[3]",
        "A = args[0] high", "if A & 1 goto 13 else 13", "return ERRNO EPERM", "return KILL_THREAD",
        "return TRACE 7", "return 0x12340000", "return A",
    ]  # fmt: skip
