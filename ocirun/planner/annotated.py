"""The annotations of crun that no plan obeys (docs/annotations.md): whoever writes one is told.

To the specification they are members like any unknown one, to be ignored; but a container without what one of
REFUSED asks for would be less confined, or another program.
"""

from __future__ import annotations

from ocirun.planner.seccomp import check_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.planner.draft import Draft

PREFIX = "run.oci."
#: Name -> what to tell, and what to do about it.
REFUSED: dict[str, tuple[str, str]] = {
    "handler": ("a program is executed by the kernel alone", "give args[0] a program of Linux"),
}
IGNORED: dict[str, str] = {
    "keep_original_groups": "list them in /process/user/additionalGids",
    "timens_offset": "/linux/timeOffsets has them",
    "systemd.force_cgroup_v1": "there is cgroup2 alone",
}
#: They name files, and are obeyed by the hooks that the host runs (ocirun.lifecycle.hooks).
OUTPUTS = ("hooks.stdout", "hooks.stderr")
#: The options of SELinux that give a label to a mount.
CONTEXTS = ("context", "fscontext", "defcontext", "rootcontext")


def check(draft: Draft) -> None:
    """Notes the annotations that are known and not obeyed, of which "0" asks for nothing, and what is wrong
    with those that are."""
    for key, text in draft.config.get("annotations", {}).items():
        name = key.removeprefix(PREFIX)
        if name == key:
            continue
        if name in OUTPUTS:
            _check_output(draft, f"/annotations/{key}", text)
        elif name == "pidfd_receiver":
            draft.check_words(f"/annotations/{key}", (text,))
            check_socket(draft, f"/annotations/{key}", text)
        elif name == "mount_context_type" and text not in CONTEXTS:
            draft.fault(f"/annotations/{key}", text, f"must be one of {', '.join(CONTEXTS)}", "see mount(8)")
        elif text == "0":
            continue
        elif name in REFUSED:
            why, hint = REFUSED[name]
            draft.gap(f"/annotations/{key}", text, f"is not built: {why}", hint)
        elif name in IGNORED:
            draft.warn(f"/annotations/{key}", text, "has no effect here", IGNORED[name])


def _check_output(draft: Draft, pointer: str, text: str) -> None:
    draft.check_words(pointer, (text,))
    hooks = draft.config.get("hooks", {})
    if hooks.get("createContainer") or hooks.get("startContainer"):
        draft.warn(
            pointer, text, "gets nothing of what the hooks inside the container print",
            "the end of that is in the error when one fails",
        )  # fmt: skip
