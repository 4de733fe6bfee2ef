"""``ocirun exec``."""

from __future__ import annotations

from ocirun.cli.signals import ENDING, FORWARDED, Inbox
from ocirun.cli.where import store_of
from ocirun.errors import ConfigError, OcirunError, UsageError
from ocirun.lifecycle.exec import ProcessOptions, exec_and_accompany, exec_in, look_into
from ocirun.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Capabilities, Process, User

    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.config import Document
    from ocirun.errors import Fault
    from ocirun.lifecycle.exec import Target

#: The greatest uid and gid; one more, (uid_t) -1, is no id.
_GREATEST = 0xFFFFFFFE
#: What --process says alone: such a flag beside it would be lost.
_SAID_BY_FILE = (
    "tty", "cwd", "env", "user", "additional-gids", "cap", "no-new-privs", "apparmor", "process-label",
)  # fmt: skip


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Executes a program in a container; gives its exit status, or 128 and the signal that ended it."""
    _check(invocation)
    target = look_into(
        store_of(invocation), invocation.arguments[0]
    )  # may begin anew: nothing is read before
    document = _process_file(invocation)
    process = _adapted(invocation, target) if document is None else _process_of(document)
    detach = invocation.switch("detach")
    inbox = Inbox(ENDING if detach else FORWARDED)  # open to the end, as in complete()

    warn = _by_flags(invocation, reporter) if document is None else _by_document(document, reporter)
    for fault in () if document is None else document.warnings:
        warn(fault)
    options = ProcessOptions(
        console_socket=invocation.text("console-socket"),
        pid_file=invocation.text("pid-file"),
        pidfd_socket=invocation.text("pidfd-socket"),
        preserve_fds=invocation.number("preserve-fds"),
        cgroup=invocation.text("cgroup"),
        foreground=not detach,
        ignore_paused=invocation.switch("ignore-paused"),
        warn=warn,
    )
    try:
        if detach:
            _detach(target, process, options, inbox)
            return 0
        return drive(exec_and_accompany(target, process, options, inbox), inbox.waiter)
    except OcirunError as error:
        _relocate(error, document)
        raise


def _by_document(document: Document, reporter: Reporter) -> Callable[[Fault], None]:
    """What is told of warnings about the file of --process."""

    def warn(fault: Fault) -> None:
        document.locate(fault)
        reporter.warn(fault, document.name)

    return warn


def _by_flags(invocation: Invocation, reporter: Reporter) -> Callable[[Fault], None]:
    """What is told of warnings without a file: a capability of --cap is in three sets, and told of once."""
    named = {f'"{name}"' for name in invocation.texts("cap")}
    told: set[str] = set()

    def warn(fault: Fault) -> None:
        if fault.value not in named:
            reporter.warn(fault)
        elif fault.value not in told:
            told.add(fault.value)
            fault.pointer = "--cap"
            reporter.warn(fault, "exec")

    return warn


def _detach(target: Target, process: Process, options: ProcessOptions, inbox: Inbox) -> None:
    """The descriptors of the process end with us."""
    drive(exec_in(target, process, options), inbox.waiter)


def _check(invocation: Invocation) -> None:
    """What the flags say together; raises UsageError."""
    _check_cgroup(invocation.text("cgroup"))
    if not invocation.given("process"):
        if len(invocation.arguments) < 2:
            raise UsageError("exec: COMMAND is missing", hint="or give --process FILE")
        if not invocation.arguments[1]:
            raise UsageError("exec: COMMAND must name a program", hint="an empty name is never found")
        return
    extra = [f"--{name}" for name in _SAID_BY_FILE if invocation.given(name)]
    if len(invocation.arguments) > 1:
        extra.append("a command")
    if extra:
        raise UsageError(f"exec: {' and '.join(extra)} beside --process", hint="the file says all of that")


def _check_cgroup(path: str) -> None:
    """It is below that of the container, whatever it is made of."""
    if ".." in path.split("/"):
        raise UsageError(f"exec: --cgroup {path} is not a sub cgroup path: it must not hold ..")
    if ":" in path:
        raise UsageError(
            f"exec: --cgroup {path}: cgroup2 has one tree for all controllers", hint="give the path alone"
        )


def _process_file(invocation: Invocation) -> Document | None:
    """The Process object of --process; raises ConfigError with every fault of it."""
    if not invocation.given("process"):
        return None
    from ocirun.config import PROCESS, load

    return load(invocation.text("process"), PROCESS)


def _process_of(document: Document) -> Process:
    process = document.config.get("process")
    assert process is not None
    return process


def _relocate(error: OcirunError, document: Document | None) -> None:
    """The planner's pointers are those of a config: with a file those of a process become its own, with flags
    they stay where no flag says it, for then the process has it from the config of its container."""
    if error.pointer.startswith("/linux/") and not isinstance(error, ConfigError):
        return
    if document is None:
        if not error.pointer.startswith(_SAID_BY_CONFIG):
            error.pointer = ""
        if isinstance(error, ConfigError):
            error.name, error.message = "exec", "\n".join(fault.render("exec") for fault in error.faults)
        return
    document.locate(error)
    if error.pointer and not isinstance(error, ConfigError):
        error.pointer, error.document = error.pointer.removeprefix("/process"), document.name


_SAID_BY_CONFIG = tuple(
    f"/process/{name}" for name in ("execCPUAffinity", "ioPriority", "rlimits", "scheduler")
)


# -- the container's own process, as the flags change it -----------------------------------------------------


def _adapted(invocation: Invocation, target: Target) -> Process:
    """The process of the container with the flags over it, as runc has it; raises UsageError."""
    own = target.config.get("process")
    process: Process = {"args": [], "cwd": "/"} if own is None else own.copy()
    process["args"] = invocation.arguments[1:]
    process["terminal"] = invocation.switch("tty")
    process["env"] = [*process.get("env", ()), *_entries(invocation)]
    if invocation.text("cwd"):
        process["cwd"] = _absolute(invocation.text("cwd"))
    if invocation.given("no-new-privs"):
        process["noNewPrivileges"] = invocation.switch("no-new-privs")
    if invocation.given("apparmor"):
        process["apparmorProfile"] = invocation.text("apparmor")
    if invocation.given("process-label"):
        process["selinuxLabel"] = invocation.text("process-label")
    _set_user(invocation, process)
    _add_capabilities(invocation.texts("cap"), process)
    return process


def _entries(invocation: Invocation) -> list[str]:
    for entry in invocation.texts("env"):
        if entry.find("=") < 1:
            raise UsageError(f"exec: --env {entry}: must have the form NAME=VALUE")
    return invocation.texts("env")


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise UsageError(f"exec: --cwd {path}: must be an absolute path in the container")
    return path


def _set_user(invocation: Invocation, process: Process) -> None:
    """Without a group in --user the container's stays; --additional-gids adds to its groups."""
    own = process.get("user")
    user: User = {"uid": 0, "gid": 0} if own is None else own.copy()
    if invocation.given("user"):
        uid, colon, gid = invocation.text("user").partition(":")
        user["uid"] = _id("user", uid)
        if colon:
            user["gid"] = _id("user", gid)
    more = [_id("additional-gids", gid) for gid in invocation.texts("additional-gids")]
    if more:
        user["additionalGids"] = [*user.get("additionalGids", ()), *more]
    process["user"] = user


def _id(flag: str, text: str) -> int:
    """A whole number and nothing else: what is half read would be root in the end (CVE-2026-30892)."""
    if text.isascii() and text.isdigit() and len(text) < 11 and int(text) <= _GREATEST:
        return int(text)
    raise UsageError(
        f"exec: --{flag}: {text!r} is no id: a number from 0 to {_GREATEST}",
        hint="names are not looked up: the accounts in an image are its own",
    )


def _add_capabilities(names: list[str], process: Process) -> None:
    """To what may be used at once; to the ambient set only what is inheritable without us: we add nothing
    there (CVE-2022-29162)."""
    if not names:
        return
    own = process.get("capabilities")
    sets: Capabilities = {} if own is None else own.copy()
    sets["bounding"] = [*sets.get("bounding", ()), *names]
    sets["effective"] = [*sets.get("effective", ()), *names]
    sets["permitted"] = [*sets.get("permitted", ()), *names]
    inheritable = sets.get("inheritable", ())
    sets["ambient"] = [*sets.get("ambient", ()), *(name for name in names if name in inheritable)]
    process["capabilities"] = sets
