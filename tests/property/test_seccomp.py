"""A compiled profile answers as the profile reads, for calls, architectures and arguments of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from ocirun.config.seccomp_rules import check_seccomp
from ocirun.seccomp.cache import key_of
from ocirun.seccomp.compile import compile_profile
from ocirun.seccomp.tables import ACTIONS, ARCHITECTURES, WITH_ERRNO
from tests.unit import bpf, profiles

if TYPE_CHECKING:
    from ocirun_spec.types import Seccomp

#: Calls that are one and the same on every architecture (no socketcall or ipc behind them), old and new.
NAMES = "read write mkdir chmod kill prctl personality unshare openat2 close_range".split()
#: What can be filtered beside the native architecture.
OTHERS = {
    ARCHITECTURES["SCMP_ARCH_X86_64"]: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    ARCHITECTURES["SCMP_ARCH_AARCH64"]: ["SCMP_ARCH_ARM"],
}.get(profiles.NATIVE, [])

values = st.sampled_from([0, 1, 2, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, (1 << 64) - 1])
conditions = st.fixed_dictionaries(
    {"index": st.integers(0, 5), "value": values, "op": st.sampled_from(profiles.OPERATORS)},
    optional={"valueTwo": values},
)


@st.composite
def actions(draw: st.DrawFn, action: str, errno: str) -> dict[str, Any]:
    name = draw(st.sampled_from([*ACTIONS]))
    members: dict[str, Any] = {action: name}
    if name in WITH_ERRNO and draw(st.booleans()):
        members[errno] = draw(st.integers(0, 4094))
    return members


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from([*NAMES, "no_such_call"]), min_size=1, max_size=4))
    return {
        "names": names,
        "args": draw(st.lists(conditions, max_size=3)),
        **draw(actions("action", "errnoRet")),
    }


@st.composite
def seccomp(draw: st.DrawFn) -> Seccomp:
    profile = draw(actions("defaultAction", "defaultErrnoRet"))
    profile["architectures"] = draw(st.lists(st.sampled_from(["SCMP_ARCH_X86_64", *OTHERS]), unique=True)
                                    if OTHERS[:1] == ["SCMP_ARCH_X86"] else st.just(OTHERS))  # fmt: skip
    profile["syscalls"] = draw(st.lists(rules(), max_size=4))
    if "SCMP_ACT_NOTIFY" in (profile["defaultAction"], *(rule["action"] for rule in profile["syscalls"])):
        profile["listenerPath"] = "/run/agent"
    return cast("Seccomp", profile)


def untangled(profile: Seccomp) -> Seccomp:
    """``profile`` without the calls for which libseccomp answers otherwise than it reads, or not at all.

    Of two rules for kill, a[0] <= 8 with a[3] & 1 == 0, and a[0] <= 8 with a[4] <= 8, it never ends to make
    a tree (2.5.4 and 2.6.1, and runc with it).
    """
    tangled = {name for name in NAMES if profiles.entangled(profile, name)}
    rules_of = [
        {**rule, "names": [name for name in rule["names"] if name not in tangled] or ["no_such_call"]}
        for rule in profile.get("syscalls", [])
    ]
    return cast("Seccomp", {**profile, "syscalls": rules_of})


@settings(deadline=None, max_examples=150)
@given(seccomp().map(untangled), st.data())
def test_a_compiled_profile_answers_as_it_reads(profile: Seccomp, data: st.DataObject) -> None:
    faults: list[str] = []
    check_seccomp(cast("Any", profile), lambda pointer, _rule, _hint: faults.append(pointer))
    assert faults == []
    program = compile_profile(profile).program
    tokens = {profiles.NATIVE} | {ARCHITECTURES[name] for name in profile.get("architectures", [])}
    for name in NAMES:
        for token in sorted(tokens):
            number = profiles.number_of(token, name)
            if number >= 0 and not profiles.entangled(profile, name):
                arguments = tuple(data.draw(st.tuples(*[values] * 6)))
                found = bpf.run(program, profiles.audit(token), number, arguments)
                assert found in profiles.verdicts(profile, token, name, arguments), (
                    name,
                    hex(token),
                    arguments,
                )


@given(seccomp(), seccomp())
def test_only_the_same_profile_has_the_same_key(one: Seccomp, other: Seccomp) -> None:
    assert (key_of(one) == key_of(other)) is (one == other)
