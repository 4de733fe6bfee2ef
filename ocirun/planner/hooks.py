"""The hooks that the host runs while the container is created; those of start and delete need no step."""

from __future__ import annotations

from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun_spec.types import Hook

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft


def outside(draft: Draft) -> Sequence[Step]:
    """prestart, then createRuntime: in the runtime namespace, when all is mounted and before the root is
    switched (config.md#createruntime-hooks; there runc runs them, too)."""
    hooks = draft.config.get("hooks", {})
    _check(draft, "poststart", hooks.get("poststart", []))
    _check(draft, "poststop", hooks.get("poststop", []))
    return [
        *_steps(draft, "prestart", hooks.get("prestart", [])),
        *_steps(draft, "createRuntime", hooks.get("createRuntime", [])),
    ]


def _steps(draft: Draft, kind: str, hooks: Sequence[Hook]) -> list[Step]:
    _check(draft, kind, hooks)
    return [
        steps.run_hook(kind=kind, number=number, path=hook["path"], pointer=f"/hooks/{kind}/{number}")
        for number, hook in enumerate(hooks)
    ]


def _check(draft: Draft, kind: str, hooks: Sequence[Hook]) -> None:
    """What execve(2) takes: texts, and entries of the environment that are NAME=VALUE."""
    for number, hook in enumerate(hooks):
        pointer = f"/hooks/{kind}/{number}"
        draft.check_words(pointer, (hook["path"], *hook.get("args", ()), *hook.get("env", ())))
        for at, entry in enumerate(hook.get("env", ())):
            if entry.find("=") < 1:
                draft.fault(f"{pointer}/env/{at}", entry, "must have the form NAME=VALUE")
