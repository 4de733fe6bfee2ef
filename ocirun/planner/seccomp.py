"""The filter of system calls: its flags, and the step that loads the program that was made for it."""

from __future__ import annotations

from ocirun import paths
from ocirun.plan import steps
from ocirun.planner.draft import PLUGINS, RAW_FILTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun_spec.types import Config, Seccomp

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft, Filter

_POINTER = "/linux/seccomp"
#: Where the agent listens.
LISTENER_PATH = f"{_POINTER}/listenerPath"
#: The annotation, crun's, that says it where that member is absent; it is older.
RECEIVER = "run.oci.seccomp.receiver"
PLUGINS_POINTER = f"/annotations/{PLUGINS}"
RAW_POINTER = f"/annotations/{RAW_FILTER}"
_NO_PROFILE: Seccomp = {"defaultAction": "SCMP_ACT_ALLOW"}

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
    if not draft.filtered:
        return ()
    raw = RAW_FILTER in draft.config.get("annotations", ())
    made = draft.options.seccomp
    if made is None or made.lack or made.wrong:  # without its filter no container is made
        _note(draft, made)
        return ()
    asking = is_asking(draft)
    if made.asks and not asking:
        draft.warn(
            RAW_POINTER, None, "leaves decisions to a listener that nobody named: they are ENOSYS",
            f"name one, as {LISTENER_PATH}",
        )  # fmt: skip
    loaded = steps.load_seccomp(
        program=made.program,
        flags=_flags(draft, asking=asking),
        rules=made.rules,
        origin=made.origin,
        listener="listener" if asking else "",
        pointer=RAW_POINTER if raw else _POINTER,
    )
    return (loaded, _send(draft)) if asking else (loaded,)


def _note(draft: Draft, made: Filter | None) -> None:
    if made is None:
        draft.lack(_POINTER, "the filter was not compiled", "")
    elif made.wrong:
        draft.fault(made.place, None, made.wrong, made.hint)
    else:
        draft.lack(made.place or _POINTER, made.lack, made.hint)


def is_asking(draft: Draft) -> bool:
    """Whether the filter of the process leaves decisions to a listener.  The profile beside one that an
    annotation holds is not asked, but who listens is, as with crun."""
    made = draft.options.seccomp
    if RAW_FILTER in draft.config.get("annotations", ()):
        return made is not None and made.asks and bool(receiver(draft.config)[0])
    return any(notifications(_profile(draft.config)))


def may_ask(config: Config) -> bool:
    """As that for a container that is there, whose filter nobody reads again: it may ask where it can."""
    if RAW_FILTER in config.get("annotations", ()):
        return bool(receiver(config)[0])
    return any(notifications(_profile(config)))


def _profile(config: Config) -> Seccomp:
    return config.get("linux", {}).get("seccomp") or _NO_PROFILE


def receiver(config: Config) -> tuple[str, str]:
    """The path of the socket that gets the listener, or those of the plugins, "" for none, and the pointer of
    what names them."""
    path = _profile(config).get("listenerPath", "")
    annotations = config.get("annotations", {})
    if annotations.get(PLUGINS):
        return annotations[PLUGINS], PLUGINS_POINTER
    annotated = annotations.get(RECEIVER, "")
    if path or not annotated:
        return path, LISTENER_PATH
    return annotated, f"/annotations/{RECEIVER}"


def _flags(draft: Draft, *, asking: bool) -> int:
    """Those of the profile, which are of a filter in its place as well, as with crun."""
    flags = sum({FLAGS[name] for name in _profile(draft.config).get("flags", DEFAULT_FLAGS)})
    if not asking:
        return flags & ~_WAIT_KILLABLE
    if flags & _WAIT_KILLABLE and draft.host.kernel < _KILLABLE_SINCE:
        draft.lack(
            f"{_POINTER}/flags",
            "this kernel does not know SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            "Linux 5.19 does: leave it out",
        )
    return flags | _NEW_LISTENER | (_TSYNC_ESRCH if flags & _TSYNC else 0)


def _send(draft: Draft) -> Step:
    """What listens is an AF_UNIX stream; a relative path counts from the bundle."""
    path, pointer = receiver(draft.config)
    if pointer == PLUGINS_POINTER:
        if not all(one.startswith("/") for one in path.split(":")):
            draft.fault(pointer, path, "must be absolute paths, with a colon between two")
        return steps.send_listener(listener="listener", path=path, metadata="", pointer=pointer)
    check_socket(draft, pointer, path)
    if pointer != LISTENER_PATH and not path.startswith("/"):
        draft.fault(pointer, path, "must be an absolute path")
    metadata = _profile(draft.config).get("listenerMetadata", "")
    return steps.send_listener(listener="listener", path=path, metadata=metadata, pointer=pointer)


def check_socket(draft: Draft, pointer: str, path: str) -> None:
    """Notes a path of a socket, from the bundle, that is too long for an address (unix(7), sun_path)."""
    absolute = paths.join(draft.options.bundle, path)
    if len(absolute.encode("utf-8", "surrogatepass")) > _LONGEST_PATH:
        rule = f"must not be longer than {_LONGEST_PATH} bytes"
        draft.fault(pointer, path, rule, "see unix(7), sun_path")


def notifications(profile: Seccomp) -> Iterator[str]:
    """The pointers of the actions of ``profile`` that ask a listener."""
    if profile["defaultAction"] == NOTIFY:
        yield f"{_POINTER}/defaultAction"
    for number, rule in enumerate(profile.get("syscalls", ())):
        if rule["action"] == NOTIFY:
            yield f"{_POINTER}/syscalls/{number}/action"
