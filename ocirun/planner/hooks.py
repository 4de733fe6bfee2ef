"""The hooks that run while the container is created and started: those of the host, and those that init runs.

Those after the start and at delete need no step.
"""

from __future__ import annotations

from ocirun import SPEC_VERSION
from ocirun.jsontext import dumps
from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Hook

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

#: What a timeout can be on the wire, in seconds: 136 years.
_LONGEST = 0xFFFFFFFF


def of_create(draft: Draft) -> Sequence[Step]:
    """prestart, then createRuntime, then createContainer: when all is mounted and before the root is switched
    (config.md#createruntime-hooks; there runc runs them, too)."""
    hooks = draft.config.get("hooks", {})
    _check(draft, "poststart", hooks.get("poststart", []))
    _check(draft, "poststop", hooks.get("poststop", []))
    return [
        *_outside(draft, "prestart", hooks.get("prestart", [])),
        *_outside(draft, "createRuntime", hooks.get("createRuntime", [])),
        *_inside(draft, "createContainer", hooks.get("createContainer", [])),
    ]


def of_start(draft: Draft) -> Sequence[Step]:
    """startContainer: by init, as it will execute the program (config.md#startcontainer-hooks)."""
    hooks = draft.config.get("hooks", {})
    return _inside(draft, "startContainer", hooks.get("startContainer", []))


def _outside(draft: Draft, kind: str, hooks: Sequence[Hook]) -> list[Step]:
    _check(draft, kind, hooks)
    return [
        steps.run_hook(kind=kind, number=number, path=hook["path"], pointer=f"/hooks/{kind}/{number}")
        for number, hook in enumerate(hooks)
    ]


def _inside(draft: Draft, kind: str, hooks: Sequence[Hook]) -> list[Step]:
    _check(draft, kind, hooks)
    state = _state(draft) if hooks else b""
    return [
        steps.run_hook_inside(
            kind=kind,
            number=number,
            path=hook["path"],
            args=hook.get("args") or [hook["path"]],
            env=hook.get("env", ()),
            timeout=min(hook.get("timeout", 0), _LONGEST),
            state=state,
            pointer=f"/hooks/{kind}/{number}",
        )
        for number, hook in enumerate(hooks)
    ]


def _state(draft: Draft) -> bytes:
    """The state for a hook of the container (runtime.md#state) from its second member on: the first is the
    pid, which only init knows.  `creating` is step 2 of the lifecycle, and the hooks come after that."""
    members: dict[str, object] = {
        "ociVersion": SPEC_VERSION,
        "id": draft.options.id,
        "status": "created",
        "bundle": draft.options.bundle,
    }
    annotations = draft.config.get("annotations")
    if annotations:
        members["annotations"] = annotations
    # half a surrogate pair stays one in JSON: a path that is no UTF-8 is passed on, byte by byte
    return dumps(members).lstrip("{").encode("utf-8", "surrogateescape")


def _check(draft: Draft, kind: str, hooks: Sequence[Hook]) -> None:
    """What execve(2) takes: texts, and entries of the environment that are NAME=VALUE."""
    for number, hook in enumerate(hooks):
        pointer = f"/hooks/{kind}/{number}"
        draft.check_words(pointer, (hook["path"], *hook.get("args", ()), *hook.get("env", ())))
        for at, entry in enumerate(hook.get("env", ())):
            if entry.find("=") < 1:
                draft.fault(f"{pointer}/env/{at}", entry, "must have the form NAME=VALUE")
