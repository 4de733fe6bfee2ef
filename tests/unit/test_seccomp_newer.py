"""What is newer than a profile answers ENOSYS, each architecture by its own numbers."""

from __future__ import annotations

import pytest

from ocirun.seccomp import newer
from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES
from tests.unit.bpf import run

ALLOW, ENOSYS = ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_ERRNO"] | 38
BEHIND = (6).to_bytes(2, "little") + bytes(2) + ALLOW.to_bytes(4, "little")
X86, X86_64, X32, ARM, AARCH64 = (
    ARCHITECTURES[f"SCMP_ARCH_{name}"] for name in ("X86", "X86_64", "X32", "ARM", "AARCH64")
)
X32_BIT = 0x40000000


def answer(newest: dict[int, int], arch: int, number: int) -> int:
    return run(newer.prefix(newest) + BEHIND, arch, number)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "SCMP_ARCH_X32"])
def test_the_newest_goes_on_and_the_next_does_not_exist(name: str) -> None:
    token = ARCHITECTURES[name]
    every = {one: 400 + place for place, one in enumerate(ARCHITECTURES.values())}
    for newest in ({token: every[token]}, every):
        assert answer(newest, token, 0) == ALLOW
        assert answer(newest, token, every[token]) == ALLOW
        assert answer(newest, token, every[token] + 1) & 0xFFFF0000 == ACTIONS["SCMP_ACT_ERRNO"]


def test_the_errno_is_that_of_the_architecture() -> None:
    numbers = {name: answer({ARCHITECTURES[name]: 1}, ARCHITECTURES[name], 9) & 0xFFFF
               for name in ("SCMP_ARCH_X86", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC64")}  # fmt: skip
    assert [*numbers.values()] == [38, 89, 251]


def test_an_architecture_without_names_is_left_to_the_filter() -> None:
    assert answer({X86_64: 10}, X86, 11) == ALLOW
    assert answer({}, X86_64, 9999) == ALLOW


def test_x32_has_numbers_of_its_own() -> None:
    both = {X86_64: 10, X32: X32_BIT + 20}
    assert answer(both, X86_64, 11) == ENOSYS
    assert answer(both, X86_64, X32_BIT + 20) == ALLOW
    assert answer(both, X86_64, X32_BIT + 21) == ENOSYS
    assert answer({X86_64: 10}, X86_64, X32_BIT + 21) == ALLOW, "libseccomp's to judge"
    assert answer({X32: X32_BIT + 20}, X86_64, 500) == ALLOW
    assert answer({X32: X32_BIT + 20}, X86_64, X32_BIT + 21) == ENOSYS


def test_calls_of_the_kernel_for_itself_are_not_new_on_arm() -> None:
    assert answer({ARM: 400}, ARM, 0xF0002) == ALLOW
    assert answer({ARM: 400}, ARM, 401) == ENOSYS
    assert [newer.is_ordinary(ARM, number) for number in (400, 0xF0002, -1)] == [True, False, False]
    assert newer.is_ordinary(AARCH64, 0xF0002)


@pytest.mark.parametrize("action", ACTIONS)
def test_only_a_default_that_denies_needs_it(action: str) -> None:
    lets = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE"}
    assert newer.needed(ACTIONS[action] | 1) is (action not in lets)
    assert newer.needed(ENOSYS) is False
