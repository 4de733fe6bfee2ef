"""The default seccomp profile of Docker and Podman, made an OCI one for this machine.

It is fetched from Debian as the peers are (conformance.peers), and never part of this tree.  What it says of
architectures, capabilities and kernels is decided here, as engines decide it before they write config.json.
"""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, TypeAlias, cast

from conformance.peers import Kit, fetched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_KIT = Kit("seccomp-profile", "sid", ("golang-github-containers-common",), ())

#: uname's word, Go's word, libseccomp's word.
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
}
#: What Docker gives a container that asks for nothing (moby 28, oci/caps/defaults.go), without CAP_.
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
    "SYS_CHROOT KILL AUDIT_WRITE"
).split()
#: What /linux/seccomp/syscalls has of a rule (config-linux.md, Seccomp).
_MEMBERS = ("names", "action", "errnoRet", "args")


def fetch() -> Path:
    """The file of the profile, fetched when needed; raises PeerError."""
    return fetched(_KIT) / "root/usr/share/containers/seccomp.json"


def convert(capabilities: Sequence[str]) -> dict[str, Json]:
    """The value of /linux/seccomp for a container with these capabilities, named without CAP_.

    Raises PeerError when the profile cannot be fetched, KeyError on an architecture that it is not known for.
    """
    return converted(json.loads(fetch().read_text()), capabilities, platform.machine(), platform.release())


def converted(
    profile: dict[str, Json], capabilities: Sequence[str], machine: str, release: str
) -> dict[str, Json]:
    """``profile`` for these capabilities on that machine and kernel."""
    word, name = _ARCHITECTURES[machine]
    held = {f"CAP_{capability}" for capability in capabilities}
    kernel = _numbers(release)
    rules = cast("list[dict[str, Json]]", profile["syscalls"])
    result: dict[str, Json] = {
        "defaultAction": profile["defaultAction"],
        "architectures": _architectures(profile, name),
        "syscalls": [_rule(rule) for rule in rules if _applies(rule, held, word, kernel)],
    }
    if "defaultErrnoRet" in profile:
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result


def _architectures(profile: dict[str, Json], name: str) -> list[Json]:
    for entry in cast("list[dict[str, Json]]", profile["archMap"]):
        if entry["architecture"] == name:
            return [name, *cast("list[Json]", entry["subArchitectures"] or [])]
    return [name]


def _applies(rule: dict[str, Json], held: set[str], word: str, kernel: tuple[int, ...]) -> bool:
    """Whether all that the rule includes is there, and nothing that it excludes."""
    includes, excludes = _conditions(rule, "includes"), _conditions(rule, "excludes")
    wanted = includes.get("minKernel", "")
    return (
        set(_words(includes, "caps")) <= held
        and (not includes.get("arches") or word in _words(includes, "arches"))
        and (not wanted or kernel >= _numbers(str(wanted)))
        and not set(_words(excludes, "caps")) & held
        and word not in _words(excludes, "arches")
    )


def _conditions(rule: dict[str, Json], name: str) -> dict[str, Json]:
    return cast("dict[str, Json]", rule.get(name) or {})


def _words(conditions: dict[str, Json], name: str) -> list[str]:
    return cast("list[str]", conditions.get(name) or [])


def _rule(rule: dict[str, Json]) -> dict[str, Json]:
    return {name: rule[name] for name in _MEMBERS if rule.get(name) not in (None, [], "")}


def _numbers(release: str) -> tuple[int, ...]:
    """Major and minor of a kernel's release."""
    parts = release.replace("-", ".").split(".")
    return tuple(int(part) for part in parts[:2])
