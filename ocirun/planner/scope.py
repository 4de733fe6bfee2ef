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
    "/linux/seccomp/defaultErrnoRet": "the compiler of the filter reads it (ocirun.seccomp)",
    "/linux/seccomp/architectures": "the compiler of the filter reads it",
    "/linux/seccomp/syscalls/*/names": "the compiler of the filter reads them",
    "/linux/seccomp/syscalls/*/errnoRet": "the compiler of the filter reads it",
    "/linux/seccomp/syscalls/*/args": "the compiler of the filter reads them",
    "/linux/seccomp/listenerMetadata": "it goes where listenerPath says, with the listener",
    "/process/execCPUAffinity": "it is of processes that exec starts",
    "/process/execCPUAffinity/initial": "it is of processes that exec starts (ocirun.planner.exec)",
    "/process/execCPUAffinity/final": "it is of processes that exec starts",
    "/linux/personality/flags": "none is defined, and the rules of the config take none",
    "/ociVersion": "the reader of the config judges it",
    "/annotations": "they are kept in the state of the container, and few are obeyed (docs/annotations.md)",
    **{f"/hooks/{kind}/*/timeout": "the lifecycle, which runs the hooks, keeps it" for kind in HOOKS},
}

_ELSEWHERE = "belongs to another platform"

#: Pointer of an object -> its members that are refused -> the rule to tell.
REFUSED: dict[str, dict[str, str]] = {
    "": {
        "vm": _ELSEWHERE,
        "solaris": _ELSEWHERE,
        "windows": _ELSEWHERE,
        "zos": _ELSEWHERE,
        "freebsd": _ELSEWHERE,
    },
    "/process": {"commandLine": _ELSEWHERE},
    "/process/user": {"username": _ELSEWHERE},
}

_OLDEST_KERNEL = (5, 15)
_CAP_SYS_ADMIN = 1 << 21
#: With ``context=`` before it, it is a parameter of fsconfig(2).
_LONGEST_LABEL = 200


def check(draft: Draft) -> None:
    """Notes every asked-for member of the config that is not built, and what every container needs."""
    check_process(draft)
    _refuse(draft, "", draft.config, REFUSED[""])
    _check_label(draft)
    if any(key.startswith("run.oci.") for key in draft.config.get("annotations", ())):
        from ocirun.planner import annotated

        annotated.check(draft)


def _check_label(draft: Draft) -> None:
    """A host without SELinux has no label to give to a mount, nor anybody whom that would keep out."""
    label = draft.linux.get("mountLabel", "")
    if label and not draft.host.selinux:
        draft.warn("/linux/mountLabel", label, "has no effect: this host has no SELinux")
    elif '"' in label or len(label) > _LONGEST_LABEL:
        rule = f"must be a label of SELinux: no quote, no more than {_LONGEST_LABEL} letters"
        draft.fault("/linux/mountLabel", label, rule, "as system_u:object_r:container_file_t:s0:c1,c2")


def check_process(draft: Draft) -> None:
    """Notes what is not built of the process alone, and what the host must be able to do."""
    _check_host(draft)
    _check_apparmor(draft)
    _check_selinux(draft)
    _refuse(draft, "/process", draft.process, REFUSED["/process"])
    _refuse(draft, "/process/user", draft.user, REFUSED["/process/user"])


def _check_apparmor(draft: Draft) -> None:
    """A host without AppArmor confines nobody, so there nothing is to be done for ``unconfined``."""
    profile = draft.process.get("apparmorProfile", "")
    if any(space in profile for space in " \t\n"):
        draft.fault("/process/apparmorProfile", profile, "must be the name of a profile, without a space")
    if profile not in ("", "unconfined") and not draft.host.apparmor:
        draft.lack(
            "/process/apparmorProfile", "this host has no AppArmor", "boot with apparmor=1, or leave it out"
        )


def _check_selinux(draft: Draft) -> None:
    """Without SELinux no process of the host has a label, and engines write one by a policy of their own: so
    it is told, and no error as with the peers."""
    label = draft.process.get("selinuxLabel", "")
    if label and not draft.host.selinux:
        draft.warn(
            "/process/selinuxLabel", label, "has no effect: this host has no SELinux", "boot with selinux=1"
        )


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
    if host.euid == 0 and not host.capabilities & _CAP_SYS_ADMIN:
        draft.lack(
            "", "this process has no CAP_SYS_ADMIN", "run outside of the container, or give it the capability"
        )
    if host.kernel < _OLDEST_KERNEL:
        draft.lack(
            "", f"the kernel is {host.kernel[0]}.{host.kernel[1]}", "5.15 is the oldest that can do this"
        )


def _refuse(draft: Draft, place: str, value: Mapping[str, object], refused: Mapping[str, str]) -> None:
    for name in value:
        if name in refused and not neutral(value[name]):
            draft.gap(f"{place}/{name}", value[name], refused[name])
