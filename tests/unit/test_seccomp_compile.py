"""Compiling a profile: every name of the specification, and what libseccomp or the kernel does not have."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import pyseccomp
import pytest

from ocirun.errors import ConfigError, HostError
from ocirun.features import features
from ocirun.lifecycle.filter import compiled_filter
from ocirun.planner import plan
from ocirun.seccomp import compile as compiling
from ocirun.seccomp.compile import compile_profile
from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES, OPERATORS
from ocirun.waiting import drive
from tests.golden import cases
from tests.unit import bpf, profiles
from tests.unit.test_planner_scope import asking

if TYPE_CHECKING:
    from pathlib import Path

    from ocirun_spec.types import Seccomp

    from ocirun.plan.model import Step

NATIVE = profiles.NATIVE
MKDIR = profiles.number_of(NATIVE, "mkdirat")
BLOCK = cast("dict[str, dict[str, dict[str, list[str]]]]", features())["linux"]["seccomp"]


def seccomp(default: str = "SCMP_ACT_ALLOW", **members: object) -> Seccomp:
    return cast("Seccomp", {"defaultAction": default, **members})


def rule(action: str, **members: object) -> dict[str, object]:
    return {"names": ["mkdirat"], "action": action, **members}


def answer(profile: Seccomp, *arguments: int, number: int = MKDIR) -> int:
    given = (*arguments, *[0] * (6 - len(arguments)))
    return bpf.run(compile_profile(profile).program, profiles.audit(NATIVE), number, given)


@pytest.mark.parametrize("action", BLOCK["actions"])
def test_every_action_is_what_the_kernel_calls_so(action: str) -> None:
    errno = 1 if action in {"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"} else 0
    default = "SCMP_ACT_ALLOW" if action != "SCMP_ACT_ALLOW" else "SCMP_ACT_LOG"
    assert answer(seccomp(action)) == ACTIONS[action] | errno
    assert answer(seccomp(default, syscalls=[rule(action)])) == ACTIONS[action] | errno


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"])
@pytest.mark.parametrize("errno", [0, 38, 4094])
def test_the_errno_is_the_one_of_the_profile(action: str, errno: int) -> None:
    assert answer(seccomp(action, defaultErrnoRet=errno)) == ACTIONS[action] | errno
    assert answer(seccomp(syscalls=[rule(action, errnoRet=errno)])) == ACTIONS[action] | errno


@pytest.mark.parametrize(
    ("operator", "value", "two", "yes", "no"),
    [
        ("SCMP_CMP_NE", 5, 0, 4, 5),
        ("SCMP_CMP_LT", 5, 0, 4, 5),
        ("SCMP_CMP_LE", 5, 0, 5, 6),
        ("SCMP_CMP_EQ", 1 << 40, 0, 1 << 40, 0),
        ("SCMP_CMP_GE", 1 << 40, 0, 1 << 40, (1 << 40) - 1),
        ("SCMP_CMP_GT", 5, 0, 6, 5),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x20, 0x12F, 0x13F),
    ],
)
def test_every_operator_compares(operator: str, value: int, two: int, yes: int, no: int) -> None:
    condition = {"index": 1, "op": operator, "value": value, "valueTwo": two}
    profile = seccomp(syscalls=[rule("SCMP_ACT_ERRNO", args=[condition])])
    assert [answer(profile, 0, given) for given in (yes, no)] == [ACTIONS["SCMP_ACT_ERRNO"] | 1, 0x7FFF0000]


def test_features_tells_the_operators_that_are_tried_here() -> None:
    assert BLOCK["operators"] == [*OPERATORS] == profiles.OPERATORS


def test_conditions_hold_together_but_those_on_one_argument_each_for_itself() -> None:
    def asked(*indices: int) -> list[int]:
        conditions = [{"index": at, "op": "SCMP_CMP_EQ", "value": 7 + n} for n, at in enumerate(indices)]
        profile = seccomp(syscalls=[rule("SCMP_ACT_ERRNO", args=conditions)])
        return [answer(profile, *given) & 0xF for given in ((7, 8), (7, 0), (8, 0))]

    assert asked(0, 1) == [1, 0, 0]
    assert asked(0, 0) == [1, 1, 1]


def test_a_rule_that_says_what_happens_anyway_or_twice_is_no_fault() -> None:
    rules = [rule("SCMP_ACT_ALLOW"), rule("SCMP_ACT_LOG"), rule("SCMP_ACT_LOG")]
    assert answer(seccomp(syscalls=rules)) == ACTIONS["SCMP_ACT_LOG"]


def test_unknown_names_are_ignored_and_not_counted() -> None:
    names = ["mkdirat", "no_such_call", "mkdir\0", "\ud800", "", "breakpoint"]
    profile = seccomp("SCMP_ACT_ERRNO", syscalls=[{"names": names, "action": "SCMP_ACT_ALLOW"}])
    assert compile_profile(profile).rules == 2, "breakpoint is one of ARM's"
    assert answer(profile) == ACTIONS["SCMP_ACT_ALLOW"]


def test_what_is_newer_than_the_profile_does_not_exist() -> None:
    profile = seccomp("SCMP_ACT_KILL", syscalls=[rule("SCMP_ACT_ALLOW")])
    assert answer(profile, number=MKDIR + 1) == profiles.ENOSYS
    assert answer(profile, number=MKDIR - 1) == ACTIONS["SCMP_ACT_KILL"]
    assert (
        answer(seccomp("SCMP_ACT_LOG", syscalls=[rule("SCMP_ACT_KILL")]), number=9999)
        == ACTIONS["SCMP_ACT_LOG"]
    )


def _mixes(token: int) -> bool:
    """Whether this libseccomp filters an architecture beside the native one."""
    if token == NATIVE:
        return True
    try:
        pyseccomp.SyscallFilter(ACTIONS["SCMP_ACT_ALLOW"]).add_arch(token)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", BLOCK["archs"])
def test_every_architecture_is_filtered_or_refused_by_name(name: str) -> None:
    """libseccomp knows no mixed byte orders, and older ones not all architectures."""
    profile = seccomp("SCMP_ACT_ERRNO", architectures=[name], syscalls=[rule("SCMP_ACT_ALLOW")])
    token = ARCHITECTURES[name]
    if not _mixes(token):
        with pytest.raises(HostError, match=f"libseccomp refuses the architecture {name}: ") as caught:
            compile_profile(profile)
        assert caught.value.pointer == "/linux/seccomp/architectures/0"
        return
    program = compile_profile(profile).program
    number = profiles.number_of(token, "mkdirat")
    assert bpf.run(program, profiles.audit(token), number) == ACTIONS["SCMP_ACT_ALLOW"]
    assert bpf.run(program, profiles.audit(token), number + 1000) & 0xFFFF0000 == ACTIONS["SCMP_ACT_ERRNO"]
    assert bpf.run(program, 0x12345678, number) == ACTIONS["SCMP_ACT_KILL"], "any other is a foreign one"


def test_the_default_alone_is_a_filter() -> None:
    assert answer(seccomp()) == ACTIONS["SCMP_ACT_ALLOW"]
    assert compile_profile(seccomp()).rules == 0


def test_a_program_that_is_too_long_for_the_kernel() -> None:
    conditions = [[{"index": at, "op": "SCMP_CMP_EQ", "value": value << 33}] for at in range(6)
                  for value in range(1, 300)]  # fmt: skip
    profile = seccomp(syscalls=[rule("SCMP_ACT_LOG", args=one) for one in conditions])
    with pytest.raises(HostError, match="the kernel takes 4096"):
        compile_profile(profile)


def test_without_libseccomp_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    with pytest.raises(HostError) as caught:
        compile_profile(seccomp())
    assert "needs libseccomp" in caught.value.message
    assert "libseccomp2" in caught.value.hint


def test_an_action_that_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "avail").write_text("kill_thread trap errno trace allow\n")
    monkeypatch.setattr(compiling, "_ACTIONS", str(tmp_path / "avail"))
    with pytest.raises(HostError, match="this kernel does not know SCMP_ACT_LOG") as caught:
        compile_profile(seccomp(syscalls=[rule("SCMP_ACT_KILL"), rule("SCMP_ACT_LOG")]))
    assert caught.value.pointer == "/linux/seccomp/syscalls/1/action"


def test_a_strict_profile_names_every_call_that_is_not_known() -> None:
    unknown = [
        rule("SCMP_ACT_KILL"),
        {"names": ["mkdirat", "no_such_call", "nor_this"], "action": "SCMP_ACT_LOG"},
    ]
    with pytest.raises(HostError, match="libseccomp does not know no_such_call, nor_this") as caught:
        compile_profile(seccomp(syscalls=unknown), strict=True)
    assert caught.value.pointer == "/linux/seccomp/syscalls/1/names/1"
    known = seccomp(syscalls=[rule("SCMP_ACT_KILL"), {"names": ["ipc"], "action": "SCMP_ACT_LOG"}])
    assert compile_profile(known, strict=True).program == compile_profile(known).program


def test_a_filter_that_was_kept_says_nothing_of_a_strict_one(tmp_path: Path) -> None:
    profile = seccomp(syscalls=[{"names": ["no_such_call"], "action": "SCMP_ACT_LOG"}])
    assert drive(compiled_filter(profile, str(tmp_path))).program
    assert "no_such_call" in drive(compiled_filter(profile, str(tmp_path), strict=True)).lack


# -- what the planner makes of it


def loaded(profile: Seccomp, root: str) -> Step:
    options = cases.options()
    options.seccomp = drive(compiled_filter(profile, root))
    steps = plan(asking("/linux/seccomp", profile), cases.a_host(), options).steps
    (step,) = [one for one in steps if one.verb == "load_seccomp"]
    return step


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (None, 4),
        ([], 0),
        (["SECCOMP_FILTER_FLAG_TSYNC"], 1),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"], 6),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], 0),
    ],
)
def test_flags_are_those_of_the_system_call(flags: list[str] | None, bits: int, tmp_path: Path) -> None:
    profile = seccomp() if flags is None else seccomp(flags=flags)
    assert loaded(profile, str(tmp_path)).args[1] == bits
    assert set(flags or ()) <= set(BLOCK["supportedFlags"])


def test_the_step_carries_the_program_and_where_it_is_from(tmp_path: Path) -> None:
    profile = seccomp(syscalls=[rule("SCMP_ACT_LOG")])
    program, _, rules, origin, listener = loaded(profile, str(tmp_path)).args
    assert (program, rules, listener) == (compile_profile(profile).program, 1, "")
    assert str(origin).startswith("compiled ")
    assert loaded(profile, str(tmp_path)).args[3] == str(origin).replace("compiled", "cached")


def test_what_cannot_be_compiled_is_told_with_what_else_is_wrong(tmp_path: Path) -> None:
    profile = seccomp(architectures=["SCMP_ARCH_PARISC"])
    config = asking("/linux/seccomp", profile)
    options = cases.options()
    options.seccomp = drive(compiled_filter(profile, str(tmp_path)))
    with pytest.raises(HostError) as caught:
        plan(config, cases.a_host(), options)
    assert caught.value.pointer == "/linux/seccomp/architectures/0"
    config["hostname"] = "a\0b"
    with pytest.raises(ConfigError):
        plan(config, cases.a_host(), options)


def test_no_container_is_planned_without_its_filter() -> None:
    options = cases.options()
    options.seccomp = None
    with pytest.raises(HostError, match="not compiled"):
        plan(asking("/linux/seccomp", seccomp()), cases.a_host(), options)


ASKING = {"listenerPath": "/run/agent", "listenerMetadata": "m"}
TSYNC, KILLABLE = "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"


@pytest.mark.parametrize(
    ("flags", "bits"), [([], 8), ([TSYNC], 1 | 8 | 16), ([KILLABLE], 8 | 32), ([TSYNC, KILLABLE], 57)]
)
def test_what_asks_somebody_has_a_listener_that_is_sent(flags: list[str], bits: int, tmp_path: Path) -> None:
    profile = seccomp(syscalls=[rule("SCMP_ACT_NOTIFY")], flags=flags, **ASKING)
    step = loaded(profile, str(tmp_path))
    assert (step.args[1], step.args[4]) == (bits, "listener")
    options = cases.options()
    options.seccomp = drive(compiled_filter(profile, str(tmp_path)))
    steps = plan(asking("/linux/seccomp", profile), cases.a_host(), options).steps
    (sent,) = [one for one in steps if one.verb == "send_listener"]
    assert (sent.args, sent.pointer) == (("listener", "/run/agent", "m"), "/linux/seccomp/listenerPath")


def test_a_kernel_that_cannot_wait_so_is_named(tmp_path: Path) -> None:
    profile = seccomp("SCMP_ACT_NOTIFY", flags=[KILLABLE], **ASKING)
    options = cases.options()
    options.seccomp = drive(compiled_filter(profile, str(tmp_path)))
    with pytest.raises(HostError, match="WAIT_KILLABLE_RECV") as caught:
        plan(asking("/linux/seccomp", profile), cases.a_host(kernel=(5, 18)), options)
    assert caught.value.pointer == "/linux/seccomp/flags"


@pytest.mark.parametrize(("path", "fits"), [("/" + "x" * 106, True), ("x" * 99, True), ("x" * 100, False)])
def test_a_path_that_no_socket_has_is_refused(path: str, fits: bool, tmp_path: Path) -> None:
    """A relative one counts from /bundle."""
    profile = seccomp("SCMP_ACT_NOTIFY", listenerPath=path)
    options = cases.options()
    options.seccomp = drive(compiled_filter(profile, str(tmp_path)))
    if fits:
        plan(asking("/linux/seccomp", profile), cases.a_host(), options)
        return
    with pytest.raises(ConfigError) as caught:
        plan(asking("/linux/seccomp", profile), cases.a_host(), options)
    assert caught.value.pointer == "/linux/seccomp/listenerPath"
