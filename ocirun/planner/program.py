"""The program: working directory, environment, where it is found, and its execution."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import DEFAULT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft


#: The capabilities that find a file where the user alone would not (capabilities(7)).
_OVER_FILES = ("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")


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
    if not draft.has_process or _value(draft, "HOME"):
        return ()
    return (steps.find_home(uid=draft.uid, pointer="/process/env", why=DEFAULT),)


def find_program(draft: Draft, *, early: bool = False) -> Sequence[Step]:
    """The lookup of args[0] as execvp does it, in the PATH of the environment, so that ``create`` fails.

    With ``early`` it is root who looks, in the name of the user; in his own where the user will have the
    capabilities that he would lose by that (setfsuid(2)).
    """
    if not draft.has_process:
        return ()
    args = draft.process.get("args")
    if not args:
        draft.fault("/process/args", args, "must name a program")
        return ()
    if not args[0]:
        draft.fault("/process/args/0", args[0], "must name a program")
    effective = draft.process.get("capabilities", {}).get("effective", ())
    uid = 0 if early and any(name in effective for name in _OVER_FILES) else draft.uid
    search = _value(draft, "PATH")
    return (
        steps.find_program(name=args[0], search=search, uid=uid, gid=draft.gid, pointer="/process/args/0"),
    )


def execute(draft: Draft) -> Sequence[Step]:
    """The end of the plan; a container without a process waits for ever, for nothing will be started
    (config.md#process)."""
    if not draft.has_process:
        return ()
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
    if draft.options.listen_fds:
        # 1: as the first of its pid namespace the program takes it for itself (sd_listen_fds(3))
        for name, value in (("LISTEN_FDS", str(draft.options.listen_fds)), ("LISTEN_PID", "1")):
            entries.pop(name, None)
            entries[name] = f"{name}={value}"
    return entries


def _value(draft: Draft, name: str) -> str:
    """The value of a variable of the environment, "" when it is not set."""
    return _environment(draft).get(name, "=").partition("=")[2]
