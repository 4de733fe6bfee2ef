"""Compiled filters are kept: who comes second imports no compiler; and the default profile of the engines."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from conformance.default_profile import CAPABILITIES, convert
from conformance.peers import PeerError
from ocirun.seccomp.compile import compile_profile
from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES
from tests.host.filters import calling, denying, filters_of, kept, known, native, with_caller
from tests.host.test_imports import LISTS, PYTHON, REPOSITORY, bare, imported
from tests.unit import bpf, profiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

#: What a container with a filter that is kept loads beside what every container does.
KNOWN = {
    "ocirun.lifecycle.filter",
    "ocirun.planner.seccomp",
    "ocirun.seccomp",
    "ocirun.seccomp.cache",
}
COMPILER = {"ctypes", "pyseccomp", "ocirun.seccomp.compile"}


def test_the_second_container_compiles_nothing(ocirun: Runtime, bundle: Bundle) -> None:
    ocirun.prefix, ocirun.program = PYTHON, REPOSITORY / "ocirun" / "boot.py"
    bundle.args("true").put(denying("munlockall"), "linux", "seccomp")
    first, second = (imported(ocirun.run(bundle).ok().stderr) - bare() for _ in range(2))
    assert first >= COMPILER
    assert second - set((LISTS / "run.txt").read_text().split()) == KNOWN
    container = ocirun.create(bundle.sleeping())
    assert imported(container.start().result.stderr).isdisjoint(COMPILER)
    executed = imported(ocirun.call("exec", container.id, "true").ok().stderr) - bare()
    assert executed - set((LISTS / "exec.txt").read_text().split()) == KNOWN
    assert len(kept(ocirun.root)) == 1


def test_another_profile_is_another_filter(ocirun: Runtime, bundle: Bundle) -> None:
    calling(bundle, native("munlockall"))
    for number in (errno.EXDEV, errno.ENOTTY, errno.EXDEV):
        bundle.put(denying("munlockall", errno_ret=number), "linux", "seccomp")
        assert ocirun.run(bundle).ok().stdout == f"-{number}\n"
    assert len(kept(ocirun.root)) == 2


#: On x86 they are also arguments of socketcall and ipc, for which libseccomp makes rules of its own.
OF_SOCKETCALL = frozenset(
    "socketcall ipc socket bind connect listen accept accept4 getsockname getpeername socketpair send recv "
    "sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg recvmmsg sendmmsg semop semget semctl "
    "semtimedop msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl".split()
)


def known_anywhere() -> list[str]:
    """The system calls of this machine, and some that only its 32 bits have."""
    return [
        *known(600),
        "waitpid",
        "chown32",
        "stat64",
        "fcntl64",
        "clock_gettime64",
        "mmap2",
        "nice",
        "stime",
    ]


def _flip(content: bytes) -> bytes:
    """The last instruction allows: what an attacker or a bad disk would like best."""
    return content[:-8] + bytes.fromhex("060000000000ff7f")


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [_flip, _cut, _empty])
def test_a_damaged_filter_is_never_loaded(
    ocirun: Runtime, bundle: Bundle, damage: Callable[[bytes], bytes]
) -> None:
    calling(bundle, native("munlockall")).put(denying("munlockall", errno_ret=18), "linux", "seccomp")
    assert ocirun.run(bundle).ok().stdout == "-18\n"
    (path,) = kept(ocirun.root)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert ocirun.run(bundle).ok().stdout == "-18\n"
    assert path.read_bytes() == whole, "mended"


def test_the_cache_is_no_container_and_no_plan_writes_to_it(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.args("true").put(denying("munlockall"), "linux", "seccomp").write()
    told = ocirun.call("plan", "--bundle", str(bundle.path)).ok().stdout
    assert "load_seccomp" in told
    assert "1 rule, compiled " in told
    assert not (ocirun.root / ".seccomp").exists()
    ocirun.run(bundle).ok()
    assert "1 rule, cached " in ocirun.call("plan", "--bundle", str(bundle.path)).ok().stdout
    assert ocirun.call("list", "--quiet").ok().stdout == ""


def default_profile() -> dict[str, Json]:
    """That of the engines; skips the test where it cannot be had."""
    try:
        return convert(CAPABILITIES)
    except PeerError as error:
        if os.environ.get("OCIRUN_REQUIRE_PEERS") == "1":
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("forbidden", [True, False])
def test_the_default_profile_of_the_engines(runtime: Runtime, bundle: Bundle, forbidden: bool) -> None:
    profile = default_profile()
    held = [f"CAP_{name}" for name in CAPABILITIES]
    sets = dict.fromkeys(("bounding", "effective", "permitted"), held)
    with_caller(bundle).capabilities(**sets).put(profile, "linux", "seccomp")
    bundle.put(forbidden, "process", "noNewPrivileges")
    container = runtime.running(bundle.sh("trap : TERM; ls /proc/self | wc -l; sleep 1000"))
    assert filters_of(container) == ("2", "1")
    answers = [
        runtime.call("exec", container.id, "/bin/caller", *map(str, words)).ok().stdout.strip()
        for words in (
            (native("personality"), 8),
            (native("personality"), 7),
            (native("kexec_load"),),
            (native("acct"),),
            (9999,),
        )
    ]
    assert answers == ["0", "-38", "-1", "-1", "-38"]


@pytest.mark.parametrize("errno_ret", [38, 1])
def test_each_call_under_the_default_profile_is_answered_as_it_reads(errno_ret: int) -> None:
    """On a machine for its program: every call there is, on every architecture that the profile names."""
    profile: Any = default_profile()
    profile["defaultErrnoRet"] = errno_ret
    program = compile_profile(profile).program
    denied = 0
    for token in [ARCHITECTURES[name] for name in profile["architectures"]]:
        for name in known_anywhere():
            number = profiles.number_of(token, name)
            if number < 0 or name in OF_SOCKETCALL:
                continue
            for first in (0, 8, 16, 40):
                arguments = (first, 0, 9, 0, 0, 0)
                found = bpf.run(program, profiles.audit(token), number, arguments)
                assert found in profiles.verdicts(profile, token, name, arguments), (name, token, first)
                denied += found != ACTIONS["SCMP_ACT_ALLOW"]
    assert denied > 100
