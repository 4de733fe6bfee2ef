"""The program: working directory, environment, where it is found, and its execution."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft


def make_cwd(draft: Draft) -> Sequence[Step]:
    """A missing working directory is made, as runc does, before the root becomes read-only."""
    cwd = draft.process["cwd"]
    if not cwd.startswith("/"):
        draft.fault("/process/cwd", cwd, "must be an absolute path in the container")
    if cwd == "/":
        return ()
    return (steps.make_directory(path=cwd, mode=0o755, pointer="/process/cwd"),)


def enter_cwd(draft: Draft) -> Sequence[Step]:
    """Entered and verified before the descriptors are closed: it must not lead out (CVE-2024-21626)."""
    return (steps.enter_cwd(path=draft.process["cwd"], pointer="/process/cwd"),)


def find_home(draft: Draft) -> Sequence[Step]:
    """HOME from the container's own passwd file, where the environment has none or an empty one."""
    if _value(draft, "HOME"):
        return ()
    return (steps.find_home(uid=draft.uid, pointer="/process/env", why=DEFAULT),)


def find_program(draft: Draft) -> Sequence[Step]:
    """The lookup of args[0] as execvp does it, in the PATH of the environment, so that ``create`` fails."""
    args = draft.process.get("args")
    if not args:
        draft.fault("/process/args", args, "must name a program")
        return ()
    if not args[0]:
        draft.fault("/process/args/0", args[0], "must name a program")
    return (steps.find_program(name=args[0], search=_value(draft, "PATH"), pointer="/process/args/0"),)


def execute(draft: Draft) -> Sequence[Step]:
    """The end of the plan."""
    for number, entry in enumerate(draft.process.get("env", ())):
        if entry.find("=") < 1:
            draft.fault(f"/process/env/{number}", entry, "must have the form NAME=VALUE")
    environment = list(_environment(draft).values())
    return (steps.exec(args=draft.process.get("args", ()), env=environment, pointer="/process/args"),)


def _environment(draft: Draft) -> dict[str, str]:
    """Name -> entry; of a name that is given twice the last stands, and an empty HOME is none (as in
    runc)."""
    entries: dict[str, str] = {}
    for entry in draft.process.get("env", ()):
        name = entry.partition("=")[0]
        entries.pop(name, None)
        entries[name] = entry
    if entries.get("HOME") == "HOME=":
        del entries["HOME"]
    return entries


def _value(draft: Draft, name: str) -> str:
    """The value of a variable of the environment, "" when it is not set."""
    return _environment(draft).get(name, "=").partition("=")[2]
