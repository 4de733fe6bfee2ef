"""The compiler of filters runs in a child, which is given up when it takes too long."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, cast

import pytest

from ocirun.errors import HostError
from ocirun.seccomp import apart
from ocirun.seccomp.compile import compile_profile
from ocirun.waiting import drive
from tests.host import observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Seccomp

PROFILE = cast(
    "Seccomp",
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO"}],
    },
)


def test_it_makes_what_the_compiler_makes() -> None:
    here, there = compile_profile(PROFILE), drive(apart.compile_apart(PROFILE))
    assert (there.program, there.rules, there.library) == (here.program, here.rules, here.library)


def test_what_the_compiler_refuses_is_refused_here() -> None:
    with pytest.raises(HostError) as here:
        compile_profile(PROFILE, strict=True)
    with pytest.raises(HostError) as there:
        drive(apart.compile_apart(PROFILE, strict=True))
    assert str(there.value) == str(here.value)
    assert (there.value.pointer, there.value.code) == (here.value.pointer, here.value.code)


@pytest.mark.parametrize("never", [lambda: signal.sigtimedwait([], 1000), lambda: os._exit(0)])
def test_one_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, never: Callable[[], object]
) -> None:
    before, there = observe.descriptors(os.getpid()), observe.descendants(os.getpid())

    def compile_nothing(profile: Seccomp, *, strict: bool) -> object:
        del profile, strict
        return never()

    monkeypatch.setattr(apart, "compile_profile", compile_nothing)
    monkeypatch.setattr(apart, "_PATIENCE", 0.2)
    with pytest.raises(HostError, match="libseccomp has not compiled the profile") as caught:
        drive(apart.compile_apart(PROFILE))
    assert caught.value.pointer == "/linux/seccomp"
    assert observe.descriptors(os.getpid()).items() <= before.items()
    assert observe.descendants(os.getpid()) <= there
