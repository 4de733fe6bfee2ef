"""The rules of /linux/seccomp."""

from __future__ import annotations

from ocirun.config.access import an_object, integer, objects, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.config.access import Found, Object

HERE = "/linux/seccomp"
#: The actions that carry a number, with the greatest: below MAX_ERRNO (libseccomp), and SECCOMP_RET_DATA.
WITH_NUMBER = {"SCMP_ACT_ERRNO": 4094, "SCMP_ACT_TRACE": 65535}

#: Annotations that say who listens, where the profile does not, or are the filter in its place.
ELSEWHERE = ("run.oci.seccomp.receiver", "run.oci.seccomp.plugins", "run.oci.seccomp_bpf_data")


def check_seccomp(config: Object, found: Found) -> None:
    """Report every fault of the system call filter of ``config``."""
    of = an_object(an_object(config, "linux"), "seccomp")
    if not of:
        return
    number(of, "defaultAction", "defaultErrnoRet", HERE, found)
    for index, item in objects(of, "syscalls"):
        pointer = f"{HERE}/syscalls/{index}"
        number(item, "action", "errnoRet", pointer, found)
        arguments(item, pointer, found)
    annotations = an_object(config, "annotations")
    if not any(annotations.get(name) for name in ELSEWHERE):
        listener(of, found)


def number(of: Object, action: str, errno: str, pointer: str, found: Found) -> None:
    """An errno stands only beside an action that takes one (config-linux.md, Seccomp)."""
    told, value = string(of, action), integer(of, errno)
    if told is None or value is None or not told.startswith("SCMP_ACT_"):
        return
    if told not in WITH_NUMBER:
        found(
            f"{pointer}/{errno}",
            f"cannot stand beside {told}",
            "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take one",
        )
    elif value > WITH_NUMBER[told]:
        found(f"{pointer}/{errno}", f"must be at most {WITH_NUMBER[told]} for {told}", "see errno(3)")


def arguments(item: Object, pointer: str, found: Found) -> None:
    """A system call has six arguments."""
    for index, argument in objects(item, "args"):
        if (integer(argument, "index") or 0) > 5:
            found(f"{pointer}/args/{index}/index", "must be from 0 to 5", "a system call has six arguments")


def listener(of: Object, found: Found) -> None:
    """Metadata goes to a listener, and so do notifications (config-linux.md, Seccomp)."""
    if of.get("listenerPath", "") != "":
        return
    if "listenerMetadata" in of:
        found(
            f"{HERE}/listenerMetadata", "cannot stand without listenerPath", "there is nobody to send it to"
        )
    if string(of, "defaultAction") == "SCMP_ACT_NOTIFY":
        found(f"{HERE}/defaultAction", "needs listenerPath", "there is nobody to decide")
    for index, item in objects(of, "syscalls"):
        if string(item, "action") == "SCMP_ACT_NOTIFY":
            found(f"{HERE}/syscalls/{index}/action", "needs listenerPath", "there is nobody to decide")
