"""The filter of system calls: its flags, and the step that loads the program that was compiled for it."""

from __future__ import annotations

from ocirun import paths
from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun_spec.types import Seccomp

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

_POINTER = "/linux/seccomp"
#: Where the agent listens.
LISTENER_PATH = f"{_POINTER}/listenerPath"

#: Flags of the config -> those of seccomp(2).  The last is one of a listener: without SCMP_ACT_NOTIFY it has
#: nothing to say, and the kernel refuses it.
FLAGS: dict[str, int] = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
_TSYNC, _WAIT_KILLABLE = 1, 32
#: What a listener adds: NEW_LISTENER, and beside TSYNC TSYNC_ESRCH, for both answer with a number.
_NEW_LISTENER, _TSYNC_ESRCH = 8, 16
#: Where the config has no list of flags at all, as with runc: the slow mitigation is for who asks for it.
DEFAULT_FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)
#: The action that needs somebody who decides.
NOTIFY = "SCMP_ACT_NOTIFY"
#: sun_path of unix(7), without the NUL at its end.
_LONGEST_PATH = 107
#: The first that knows WAIT_KILLABLE_RECV.
_KILLABLE_SINCE = (5, 19)


def load(draft: Draft) -> Sequence[Step]:
    """The steps that load the filter of the config, and hand its listener to the agent; what cannot be
    filtered is noted in ``draft``."""
    profile = draft.linux.get("seccomp")
    if not profile:
        return ()
    made = draft.options.seccomp
    if made is None or made.lack:  # without its filter no container is made
        if made is None:
            draft.lack(_POINTER, "the filter was not compiled", "")
        else:
            draft.lack(made.place or _POINTER, made.lack, made.hint)
        return ()
    asking = any(notifications(profile))
    loaded = steps.load_seccomp(
        program=made.program,
        flags=_flags(draft, profile, asking=asking),
        rules=made.rules,
        origin=made.origin,
        listener="listener" if asking else "",
        pointer=_POINTER,
    )
    return (loaded, _send(draft, profile)) if asking else (loaded,)


def _flags(draft: Draft, profile: Seccomp, *, asking: bool) -> int:
    flags = sum({FLAGS[name] for name in profile.get("flags", DEFAULT_FLAGS)})
    if not asking:
        return flags & ~_WAIT_KILLABLE
    if flags & _WAIT_KILLABLE and draft.host.kernel < _KILLABLE_SINCE:
        draft.lack(
            f"{_POINTER}/flags",
            "this kernel does not know SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            "Linux 5.19 does: leave it out",
        )
    return flags | _NEW_LISTENER | (_TSYNC_ESRCH if flags & _TSYNC else 0)


def _send(draft: Draft, profile: Seccomp) -> Step:
    """What listens is an AF_UNIX stream; a relative path counts from the bundle."""
    path = profile.get("listenerPath", "")
    absolute = paths.join(draft.options.bundle, path)
    if len(absolute.encode("utf-8", "surrogatepass")) > _LONGEST_PATH:
        rule = f"must not be longer than {_LONGEST_PATH} bytes"
        draft.fault(LISTENER_PATH, path, rule, "see unix(7), sun_path")
    metadata = profile.get("listenerMetadata", "")
    return steps.send_listener(listener="listener", path=path, metadata=metadata, pointer=LISTENER_PATH)


def notifications(profile: Seccomp) -> Iterator[str]:
    """The pointers of the actions of ``profile`` that ask a listener."""
    if profile["defaultAction"] == NOTIFY:
        yield f"{_POINTER}/defaultAction"
    for number, rule in enumerate(profile.get("syscalls", ())):
        if rule["action"] == NOTIFY:
            yield f"{_POINTER}/syscalls/{number}/action"
