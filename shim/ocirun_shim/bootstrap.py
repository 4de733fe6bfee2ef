"""What containerd executes: `start` makes a shim or finds the one of the group, `delete` clears up after one.

The C stub hands both to the zygote; this runs where there is none, and makes one for the next time.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
from types import ModuleType

from ocirun.errors import HostError, OcirunError, UsageError
from ocirun.files import read_file, read_whole, write_whole
from ocirun.jsontext import dumps, loads
from ocirun_shim.arguments import SERVE, START, parse, usage
from ocirun_shim.records import members, write_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from google.protobuf.any_pb2 import Any

    from ocirun_shim.arguments import Arguments
    from ocirun_shim.engine import Versions
    from ocirun_shim.messages.bootstrap_pb2 import BootstrapParams
    from ocirun_shim.orders import Desk

PROGRAM = "containerd-shim-ocirun-v2"

_LONGEST_INPUT = 10 << 20
_GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
_PRELOADED = ("ocirun_shim.messages.bootstrap_pb2", "ocirun_shim.remains", "ocirun_shim.zygote")
_MOST_OOM = 1000  # OOM_SCORE_ADJ_MAX


def main() -> NoReturn:
    """Runs the command line of this process and ends it."""
    try:
        status = _run(sys.argv[1:])
    except (OcirunError, OSError) as error:
        _complain(error)
        status = 2 if isinstance(error, UsageError) else 1
    os._exit(status)


def _run(words: list[str]) -> int:
    arguments = parse(words)
    if arguments.switch("h", "help"):
        write_whole(1, usage().encode())
        return 0
    if arguments.switch("v", "version", "info"):
        from ocirun_shim import info

        write_whole(1, info.runtime_info() if arguments.switch("info") else info.version().encode())
        return 0
    arguments.check()
    if arguments.action == SERVE:
        from ocirun_shim import process

        process.serve_by_hand(arguments)
        return 0
    from ocirun_shim.engine import Versions

    versions = Versions()
    _make_zygote(arguments, versions)
    return perform(arguments, versions)


def _make_zygote(arguments: Arguments, versions: Versions) -> None:
    """For the next time; without one everything works as well, and slower."""
    preload()
    from ocirun_shim import zygote

    programs = os.path.dirname(sys.executable) + "/"
    try:
        zygote.ensure(arguments.text("address"), programs, versions)
    except (OcirunError, OSError):
        return


def preload() -> None:
    """Imports all that a shim and `delete` need, so that no child of the zygote has to.

    The collector never looks at it again: that would write to every page that children could share.
    """
    import gc
    from importlib import import_module

    from ocirun_shim.lean import spare

    locks = _locks()
    sys.modules.setdefault("threading", locks)
    spare()
    for name in _PRELOADED:
        import_module(name)
    if sys.modules["threading"] is locks:
        del sys.modules["threading"]
    gc.collect()
    gc.freeze()


def _locks() -> ModuleType:
    """All that protobuf wants of threading.

    That would run a handler in each child that is forked, which writes to so much shared memory that a tenth
    of what a shim costs would be for threads that nobody has.
    """
    locks = ModuleType("threading")
    locks.__dict__.update(Lock=_thread.allocate_lock, RLock=_thread.RLock)
    return locks


def perform(arguments: Arguments, versions: Versions, desk: Desk | None = None) -> int:
    """Does `start` or `delete` with the standard descriptors and the directory of this process.

    The zygote at ``desk`` forks the shim, or this process does.  Gives the exit status; never raises.
    """
    try:
        arguments.check()
        if arguments.action == START:
            start(arguments, versions, desk)
        else:
            from ocirun_shim import remains

            write_whole(1, remains.delete(arguments))
    except Exception as error:  # noqa: BLE001 - containerd shows what is on standard error
        _complain(error)
        return 1
    return 0


def _complain(error: BaseException) -> None:
    text = str(error) if isinstance(error, (OcirunError, OSError)) else f"{type(error).__name__}: {error}"
    try:
        write_whole(2, f"{PROGRAM}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return


def start(arguments: Arguments, versions: Versions, desk: Desk | None = None) -> None:
    """Prints the address of the shim of this container's group, after making one where there is none.

    The bundle is the working directory.  Raises OcirunError or OSError, and has then left no process.
    """
    from ocirun_shim import sockets

    params, options = read_input(read_whole(0, _LONGEST_INPUT), arguments)
    version = 3 if params else versions.of(arguments.text("publish-binary"))
    directory = params.socket_dir if params and params.socket_dir else sockets.usual_directory()
    bundle = os.getcwd()
    group = _group(bundle) or arguments.id
    path = sockets.socket_path(directory, arguments.text("address"), arguments.namespace, group)
    answer = f"unix://{path}".encode()  # a bare address means version 2, and 1.6 understands nothing else
    if version > 2:
        answer = dumps({"version": version, "address": f"unix://{path}", "protocol": "ttrpc"}).encode()
    with sockets.Lock(directory):
        if sockets.answers(path):
            write_record(bundle, "address", f"unix://{path}")
            write_whole(1, answer)
            return
        with sockets.bind(path) as listener:  # nobody connects before the shim is what it shall be
            try:
                write_record(bundle, "address", f"unix://{path}")
                _start_shim(listener, arguments, options, answer, desk)
            except BaseException:
                sockets.unlink(path)
                raise


def _start_shim(
    listener: socket.socket, arguments: Arguments, options: Any | None, answer: bytes, desk: Desk | None
) -> None:
    """Makes the shim and prints ``answer``, when all is as containerd may look for it."""
    from ocirun_shim import hierarchies, kernel, process

    cgroup = shim_cgroup(options)
    task = process.task_of(arguments)
    pid = desk.place(listener, task) if desk else process.fork(listener, task)
    try:
        if desk:
            hierarchies.follow(pid, os.getpid())
            kernel.share_limits(pid, 0)
            kernel.share_priority(pid, 0)
        kernel.name_process(task.title, pid)
        if os.environ.get("SCHED_CORE"):
            kernel.new_core_cookie(pid)
        _adjust_oom_score(pid)
        if cgroup:
            hierarchies.place(pid, cgroup)
        write_whole(1, answer)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not desk:
            os.waitpid(pid, 0)
        raise


def shim_cgroup(options: Any | None) -> str:
    """The cgroup that the options of runc's shim name for this process, "" for none; raises UsageError."""
    from google.protobuf.message import DecodeError

    from ocirun_shim.messages import runc_options_pb2

    kind = runc_options_pb2.Options
    if options is None or options.type_url.rpartition("/")[2] != kind.DESCRIPTOR.full_name:
        return ""
    try:
        return kind.FromString(options.value).shim_cgroup
    except DecodeError as error:
        raise UsageError(f"the options are no {options.type_url}") from error


def read_input(content: bytes, arguments: Arguments) -> tuple[BootstrapParams | None, Any | None]:
    """What containerd writes to `start`: BootstrapParams since 2.3, else options as an Any, or nothing.

    The two cannot be told apart by their form: it is BootstrapParams when it names this container.  Raises
    UsageError for what is neither, or is longer than 10 MiB.
    """
    from google.protobuf.any_pb2 import Any
    from google.protobuf.message import DecodeError

    from ocirun_shim.messages.bootstrap_pb2 import BootstrapParams

    if len(content) > _LONGEST_INPUT:
        raise UsageError(f"more than {_LONGEST_INPUT} bytes on standard input")
    if not content:
        return None, None
    try:
        params = BootstrapParams.FromString(content)
    except DecodeError:
        pass
    else:
        if (params.instance_id, params.namespace) == (arguments.id, arguments.namespace):
            return params, params.extensions[0].value if params.extensions else None
    try:
        return None, Any.FromString(content)
    except DecodeError as error:
        raise UsageError("standard input holds neither BootstrapParams nor options") from error


def _group(bundle: str) -> str:
    """The group that the annotations of the config name, "" without one; its faults are for Create to say."""
    try:
        text = read_file(f"{bundle}/config.json", os.O_NONBLOCK)  # a FIFO would be waited for
        if b"\\u" not in text and not any(name.encode() in text for name in _GROUPS):
            return ""  # spares the reading of a long config
        config = loads(text)
    except (OSError, ValueError):
        return ""
    annotations = members(members(config).get("annotations"))
    named = [group for name in _GROUPS if isinstance(group := annotations.get(name), str) and group]
    return named[0] if named else ""


def _adjust_oom_score(pid: int) -> None:
    """One more than containerd's own, which is ours: the shim goes first (proc_pid_oom_score_adj(5))."""
    from ocirun_shim import kernel

    try:
        kernel.set_oom_score_adj(pid, min(kernel.oom_score_adj(os.getpid()) + 1, _MOST_OOM))
    except OSError as error:
        raise HostError(f"oom_score_adj of the shim: {error.strerror}", errno=error.errno or 0) from error


if TYPE_CHECKING:
    import socket
