"""What this version does not build: asked for, it is refused by name, never ignored.

A member that is there but asks for nothing (an empty list, an empty text, ``false``) is fine.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

    from ocirun.planner.draft import Draft

#: The hooks that the host runs.
HOOKS = ("prestart", "createRuntime", "poststart", "poststop")

#: Members of the specification that no plan has a step for, and where their part is.
NOT_PLANNED: dict[str, str] = {
    "/linux/resources/network/priorities/*/name": "network priorities are refused as a whole",
    "/linux/resources/network/priorities/*/priority": "network priorities are refused as a whole",
    "/linux/resources/memory/useHierarchy": "cgroup2 always counts children too",
    "/linux/resources/memory/checkBeforeUpdate": "update asks for it; before create nothing is in use",
    "/ociVersion": "the reader of the config judges it",
    "/annotations": "they are kept in the state of the container",
    **{f"/hooks/{kind}/*/timeout": "the lifecycle, which runs the hooks, keeps it" for kind in HOOKS},
}

_ELSEWHERE = "belongs to another platform"
_LATER = "is not built yet"

#: Pointer of an object -> its members that are refused -> the rule to tell.
REFUSED: dict[str, dict[str, str]] = {
    "": {
        "vm": _ELSEWHERE,
        "solaris": _ELSEWHERE,
        "windows": _ELSEWHERE,
        "zos": _ELSEWHERE,
        "freebsd": _ELSEWHERE,
    },
    "/process": dict.fromkeys(
        ("apparmorProfile", "selinuxLabel", "scheduler", "ioPriority", "execCPUAffinity"),
        _LATER,
    )
    | {"commandLine": _ELSEWHERE},
    "/process/user": {"username": _ELSEWHERE},
    "/linux": dict.fromkeys(
        (
            "devices",
            "netDevices",
            "seccomp",
            "mountLabel",
            "intelRdt",
            "memoryPolicy",
            "personality",
        ),
        _LATER,
    ),
    "/mounts/*": dict.fromkeys(("uidMappings", "gidMappings"), _LATER),
}

#: Values of /linux/rootfsPropagation that ask for what init does anyhow: the root is a slave of the host's
#: mount.
_PROPAGATION = ("", "slave", "rslave")
_OLDEST_KERNEL = (5, 15)
_CAP_SYS_ADMIN = 1 << 21


def check(draft: Draft) -> None:
    """Notes every asked-for member of the config that is not built, and what every container needs."""
    check_process(draft)
    _check_required(draft)
    _refuse(draft, "", draft.config, REFUSED[""])
    _refuse(draft, "/linux", draft.linux, REFUSED["/linux"])
    for number, mount in enumerate(draft.config.get("mounts", ())):
        _refuse(draft, f"/mounts/{number}", mount, REFUSED["/mounts/*"])
    propagation = draft.linux.get("rootfsPropagation", "")
    if propagation not in _PROPAGATION:
        draft.gap(
            "/linux/rootfsPropagation", propagation, hint='only "slave", which is the default, is built'
        )


def check_process(draft: Draft) -> None:
    """Notes what is not built of the process alone, and what the host must be able to do."""
    _check_host(draft)
    _refuse(draft, "/process", draft.process, REFUSED["/process"])
    _refuse(draft, "/process/user", draft.user, REFUSED["/process/user"])


def neutral(value: object) -> bool:
    """Whether a member with this value asks for nothing: absent, empty, false, or holding only such
    members."""
    if _is_object(value):
        return all(neutral(one) for one in value.values())
    return value is None or value is False or value in ("", [])


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def _check_host(draft: Draft) -> None:
    host = draft.host
    if host.euid != 0:
        draft.lack("", "containers without root are not built yet", "run as root")
    elif not host.capabilities & _CAP_SYS_ADMIN:
        draft.lack(
            "", "this process has no CAP_SYS_ADMIN", "run outside of the container, or give it the capability"
        )
    if host.kernel < _OLDEST_KERNEL:
        draft.lack(
            "", f"the kernel is {host.kernel[0]}.{host.kernel[1]}", "5.15 is the oldest that can do this"
        )


def _check_required(draft: Draft) -> None:
    """The specification admits a ``create`` without a process; only ``start`` needs one."""
    if "process" not in draft.config:
        draft.gap("/process", None, "must be there: a container without a process is not built yet")


def _refuse(draft: Draft, place: str, value: Mapping[str, object], refused: Mapping[str, str]) -> None:
    for name in value:
        if name in refused and not neutral(value[name]):
            draft.gap(f"{place}/{name}", value[name], refused[name])
