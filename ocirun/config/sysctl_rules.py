"""The rules of /linux/sysctl: only what belongs to a namespace of the container, or the host itself would
change."""

from __future__ import annotations

from ocirun_spec.checker import escape

from ocirun.config.access import an_object, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.config.access import Found, Namespaces, Object

#: What ipc_namespaces(7) lists under /proc/sys/kernel, and the shm_rmid_forced beside it.
IPC = frozenset({
    "auto_msgmni", "msg_next_id", "msgmax", "msgmnb", "msgmni", "sem", "sem_next_id", "shm_next_id",
    "shm_rmid_forced", "shmall", "shmmax", "shmmni",
})  # fmt: skip
UTS = frozenset({"hostname", "domainname"})


def check_sysctl(linux: Object, namespaces: Namespaces, found: Found) -> None:
    """Report every kernel parameter with a bad name or without a namespace of its own."""
    for name in an_object(linux, "sysctl"):
        pointer = f"/linux/sysctl/{escape(name)}"
        parts = split(name)
        if len(parts) < 2 or not all(parts) or "." in parts or ".." in parts:
            found(pointer, "must be the name of a kernel parameter", 'such as "net.ipv4.ip_forward"')
            continue
        kind = owner(parts)
        if not kind:
            found(pointer, "belongs to no namespace", "it would change the host: set it there")
        elif kind not in namespaces.kinds:
            found(pointer, f"needs the {kind} namespace", f'add {{"type": "{kind}"}} to linux.namespaces')


def check_names(config: Object, found: Found) -> None:
    """Report a kernel parameter that contradicts /hostname or /domainname, of which only one can hold."""
    for name, value in an_object(an_object(config, "linux"), "sysctl").items():
        parts = split(name)
        told = string(config, parts[1]) if parts[0] == "kernel" and parts[1:] and parts[1] in UTS else None
        if told and value != told:
            found(f"/linux/sysctl/{escape(name)}", f"contradicts /{parts[1]}", "leave one of the two out")


def split(name: str) -> list[str]:
    """The directories and the file under /proc/sys, as sysctl(8) reads names: the first of . and /
    separates."""
    if "/" in name and ("." not in name or name.index("/") < name.index(".")):
        return name.split("/")
    return [part.replace("/", ".") for part in name.split(".")]


def owner(parts: list[str]) -> str:
    """The kind of namespace that a parameter belongs to; "" for those of the whole machine."""
    if parts[0] == "net":
        return "network"
    if parts[0] == "user":
        return "user"
    if parts[:2] == ["fs", "mqueue"]:
        return "ipc"
    if parts[0] == "kernel" and len(parts) == 2:
        return "ipc" if parts[1] in IPC else "uts" if parts[1] in UTS else ""
    return ""
