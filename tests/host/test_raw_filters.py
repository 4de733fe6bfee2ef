"""Filters that a config brings ready made, as crun takes them, by what comes of calls under them."""

from __future__ import annotations

import base64
import errno
import hashlib
import struct
from typing import TYPE_CHECKING

import pytest

from tests.host.agents import Agent, but
from tests.host.execs import execute
from tests.host.filters import calling, denying, filters_of, native, with_caller
from tests.host.test_seccomp import PRIVILEGES, filtered
from tests.host.test_seccomp_notify import asking

if TYPE_CHECKING:
    from pathlib import Path

    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime

RAW, RECEIVER = "run.oci.seccomp_bpf_data", "run.oci.seccomp.receiver"
#: SECCOMP_RET_… (linux/seccomp.h).
ERRNO, NOTIFY, ALLOW = 0x00050000, 0x7FC00000, 0x7FFF0000
CALL = "munlockall"
BOTH = pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)


def program(*code: tuple[int, int, int, int]) -> str:
    """Instructions, as the annotation has them."""
    return base64.b64encode(b"".join(struct.pack("=HBBI", *one) for one in code)).decode()


def answering(value: int, name: str = CALL) -> str:
    """A filter that gives one call ``value``, and allows all others."""
    return program((0x20, 0, 0, 0), (0x15, 0, 1, native(name)), (0x06, 0, 0, value), (0x06, 0, 0, ALLOW))


def raw(bundle: Bundle, text: str, *, forbidden: bool = True) -> Bundle:
    """The bundle with a filter of its own, and with or without noNewPrivileges."""
    return bundle.put({RAW: text}, "annotations").put(forbidden, "process", "noNewPrivileges")


def tried(container: Container, name: str) -> str:
    """What comes of a call that is executed in the container."""
    return execute(container, "/bin/caller", str(native(name))).ok().stdout


@BOTH
@PRIVILEGES
def test_a_raw_filter_answers(runtime: Runtime, bundle: Bundle, forbidden: bool) -> None:
    raw(calling(bundle, native(CALL)), answering(ERRNO | errno.EXDEV), forbidden=forbidden)
    assert runtime.run(bundle).ok().stdout == f"-{errno.EXDEV}\n"


@BOTH
def test_a_raw_filter_is_there_instead_of_the_profile(runtime: Runtime, bundle: Bundle) -> None:
    filtered(with_caller(bundle.sleeping()), denying(CALL, "mkdir"))
    container = runtime.running(raw(bundle, answering(ERRNO | errno.EXDEV)))
    assert filters_of(container) == ("2", "1")
    assert tried(container, CALL) == f"-{errno.EXDEV}\n"
    assert tried(container, "mkdir") == f"-{errno.EFAULT}\n"


@BOTH
@PRIVILEGES
def test_what_is_executed_has_the_raw_filter(runtime: Runtime, bundle: Bundle, forbidden: bool) -> None:
    raw(with_caller(bundle.sleeping()), answering(ERRNO | errno.EXDEV), forbidden=forbidden)
    container = runtime.running(bundle)
    assert tried(container, CALL) == f"-{errno.EXDEV}\n"


@BOTH
@pytest.mark.parametrize("answer", [-errno.EXDEV, 42])
def test_a_raw_filter_asks_the_receiver(
    runtime: Runtime, bundle: Bundle, tmp_path: Path, answer: int
) -> None:
    raw(calling(bundle, native(CALL)), answering(NOTIFY))
    bundle.put(str(tmp_path / "agent"), "annotations", RECEIVER)
    with Agent(tmp_path / "agent", but(native(CALL), answer)) as agent:
        assert runtime.run(bundle).ok().stdout == f"{answer}\n"
    assert agent.asked == [native(CALL)]


@BOTH
def test_a_profile_asks_the_receiver(runtime: Runtime, bundle: Bundle, tmp_path: Path) -> None:
    filtered(with_caller(bundle.sleeping()), denying(CALL, action="SCMP_ACT_NOTIFY"))
    bundle.put({RECEIVER: str(tmp_path / "agent")}, "annotations")
    with Agent(tmp_path / "agent", but(native(CALL), -errno.EXDEV)) as agent:
        container = runtime.running(bundle)
        assert tried(container, CALL) == f"-{errno.EXDEV}\n"
        assert agent.states[0]["pid"] == container.pid
    assert len(agent.states) == 2


@BOTH
def test_the_member_of_the_profile_is_before_the_receiver(
    runtime: Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    filtered(calling(bundle, native(CALL)), asking(tmp_path / "agent", CALL))
    bundle.put({RECEIVER: "/nowhere"}, "annotations")
    with Agent(tmp_path / "agent", but(native(CALL), 42)):
        assert runtime.run(bundle).ok().stdout == "42\n"


@BOTH
def test_nobody_who_is_asked_answers_that_there_is_no_such_call(runtime: Runtime, bundle: Bundle) -> None:
    raw(calling(bundle, native(CALL)), answering(NOTIFY))
    assert runtime.run(bundle).ok().stdout == f"-{errno.ENOSYS}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", "must be base64"),
        ("", "must not be empty"),
        ("AAAA", "must be whole instructions of 8 bytes, and has 3 bytes"),
        (program((0x20, 0, 0, 0)), "must end with a return"),
        (program((0x15, 1, 0, 0), (0x06, 0, 0, ALLOW)), "instruction 0 jumps beyond the end"),
    ],
)
def test_what_is_no_filter_is_refused_by_its_place(
    ocirun: Runtime, bundle: Bundle, text: str, told: str
) -> None:
    ocirun.attempt(raw(bundle, text)).refused(f"/annotations/{RAW}", told)


def test_a_receiver_that_may_be_anywhere_is_refused(ocirun: Runtime, bundle: Bundle) -> None:
    raw(bundle, answering(NOTIFY)).put("agent", "annotations", RECEIVER)
    ocirun.attempt(bundle).refused(f"/annotations/{RECEIVER}", "must be an absolute path")


def test_a_plan_shows_what_a_raw_filter_does(ocirun: Runtime, bundle: Bundle) -> None:
    path = str(raw(bundle, answering(ERRNO | errno.EXDEV)).write().path)
    told = ocirun.call("plan", "--bundle", path).ok().stdout
    (step,) = (line for line in told.splitlines() if "load_seccomp" in line)
    digest = hashlib.blake2b(base64.b64decode(answering(ERRNO | errno.EXDEV)), digest_size=32).hexdigest()
    assert f"4 instructions, raw {digest[:12]}…" in step
    assert told.splitlines()[-4:] == [
        "   0  A = nr",
        f"   1  if A == {native(CALL)} goto 2 else 3",
        "   2  return ERRNO EXDEV",
        "   3  return ALLOW",
    ]
