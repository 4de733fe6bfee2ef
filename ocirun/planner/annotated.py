"""The annotations of crun that no plan obeys (docs/annotations.md): whoever writes one is told.

To the specification they are members like any unknown one, to be ignored; but a container without what one of
REFUSED asks for would be less confined, or another program.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.planner.draft import Draft

PREFIX = "run.oci."
#: Name -> what to tell, and what to do about it.
REFUSED: dict[str, tuple[str, str]] = {
    "seccomp.plugins": (
        "no library of somebody else is loaded into the runtime",
        "let an agent listen: /linux/seccomp/listenerPath",
    ),
    "handler": ("a program is executed by the kernel alone", "give args[0] a program of Linux"),
}
IGNORED: dict[str, str] = {
    "keep_original_groups": "list them in /process/user/additionalGids",
    "pidfd_receiver": "--pidfd-socket names the socket",
    "hooks.stdout": "what a hook has printed is in the error when it fails",
    "hooks.stderr": "what a hook has printed is in the error when it fails",
    "mount_context_type": "name the type in the options of the mount, such as rootcontext=",
    "timens_offset": "/linux/timeOffsets has them",
    "systemd.force_cgroup_v1": "there is cgroup2 alone",
}


def check(draft: Draft) -> None:
    """Notes the annotations that are known and not obeyed; "0" asks for nothing."""
    for key, text in draft.config.get("annotations", {}).items():
        name = key.removeprefix(PREFIX)
        if name == key or text == "0":
            continue
        if name in REFUSED:
            why, hint = REFUSED[name]
            draft.gap(f"/annotations/{key}", text, f"is not built: {why}", hint)
        elif name in IGNORED:
            draft.warn(f"/annotations/{key}", text, "has no effect here", IGNORED[name])
