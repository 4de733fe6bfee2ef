"""The hooks of the runtime namespace: prestart, createRuntime, poststart and poststop (config.md).

A hook is a program of the host, executed as it is written, without a shell.  It gets the state of the
container as its standard input, from a sealed file that is there whole, so that nobody waits for it to read;
what it prints, the end of it, goes into the error if it fails, or into files that annotations name.  It runs
in a process group of its own, so that its time limit ends its children, too.
"""

from __future__ import annotations

import fcntl
import posix as os
import time

from ocirun import SPEC_VERSION, paths
from ocirun.errors import Fault, HookError, words_of
from ocirun.executor.run import ALL_SIGNALS
from ocirun.executor.sealed import sealed
from ocirun.jsontext import dumps
from ocirun.lifecycle.process import is_dead, look
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal, TypeAlias

    from ocirun_spec.types import Config, Hook

    from ocirun.journal import Writer
    from ocirun.waiting import Task

    Kind: TypeAlias = Literal["prestart", "createRuntime", "poststart", "poststop"]

#: Annotations, crun's: the files to which standard output and error of the hooks are appended.
OUTPUTS = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
#: How much of what a hook printed an error repeats: the end of it.
_TAIL = 4096
#: How many pieces are read when it has ended: a pipe holds 64 KiB unless somebody widens it.
_PIECES = 16
#: How long a hook that was killed may take to be gone.
_PATIENCE = 10.0


def state_for(head: Mapping[str, object], status: str, pid: int) -> dict[str, object]:
    """The state of the container as a hook gets it (runtime.md#state); ``head`` is that of its journal.

    ``pid`` is 0 for a stopped container, whose state has none.
    """
    members: dict[str, object] = {"ociVersion": SPEC_VERSION, "id": head["id"], "status": status}
    if pid:
        members["pid"] = pid
    members["bundle"] = head["bundle"]
    if head.get("annotations"):
        members["annotations"] = head["annotations"]
    return members


def run_hooks(
    config: Config, kind: Kind, state: Mapping[str, object], writer: Writer | None = None
) -> Task[None]:
    """Runs all hooks of one kind in their order; raises HookError at the first that fails.

    The journal of ``writer`` is told of each, so that a delete after our death can end it.
    """
    for number, hook in enumerate(_listed(config, kind)):
        yield from run_hook(kind, number, hook, state, writer)


def run_poststop(config: Config, state: Mapping[str, object], warn: Callable[[Fault], None]) -> Task[None]:
    """Runs the poststop hooks; ``warn`` is told of one that fails, and the others run all the same
    (runtime.md#lifecycle)."""
    for number, hook in enumerate(_listed(config, "poststop")):
        try:
            yield from run_hook("poststop", number, hook, state)
        except HookError as error:
            warn(Fault(error.pointer, error.message, hint=error.hint))


def _listed(config: Config, kind: Kind) -> list[Hook]:
    return config.get("hooks", {}).get(kind, [])


def run_hook(
    kind: str, number: int, hook: Hook, state: Mapping[str, object], writer: Writer | None = None
) -> Task[None]:
    """Runs one hook to its end; ``number`` is its place in the list of its ``kind``, ``writer`` as above.

    Raises HookError when it cannot be executed, fails, or takes longer than its timeout; none of its
    processes is left then.
    """
    running = _Running(kind, number, hook, state)
    try:
        if writer is not None:
            running.record(writer)
        in_time = yield from running.follow()
    except GeneratorExit:
        running.kill()
        raise
    except BaseException:
        yield from running.end()
        raise
    else:
        if not in_time:
            yield from running.end()
            raise running.failed(f"it took longer than its timeout of {hook.get('timeout', 0)} s")
        running.judge()
    finally:
        running.close()


class _Running:
    """A hook that was started: its process, and the pipe that it prints into."""

    __slots__ = ("_path", "_pid", "_pidfd", "_pipe", "_pointer", "_tail", "_until", "_words")

    def __init__(self, kind: str, number: int, hook: Hook, state: Mapping[str, object]) -> None:
        self._pointer = f"/hooks/{kind}/{number}"
        self._path = hook["path"]
        self._words = hook.get("args") or [self._path]
        self._until = time.monotonic() + hook["timeout"] if "timeout" in hook else None
        self._tail = b""
        self._pipe, out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(out, True)
            self._pid = self._spawn(hook, state, out)
        except (OSError, HookError) as error:
            os.close(self._pipe)
            if isinstance(error, HookError):
                raise
            raise self.failed(words_of(error.errno or 0), error.errno or 0) from error
        finally:
            os.close(out)
        self._pidfd = os.pidfd_open(self._pid)

    def _spawn(self, hook: Hook, state: Mapping[str, object], out: int) -> int:
        entries = (entry.partition("=") for entry in hook.get("env", ()))
        opened: list[int] = []
        high: list[int] = []
        try:
            text = dumps(dict(state)).encode("utf-8", "surrogateescape")
            opened.append(sealed(text, "ocirun-state", executable=False))
            os.lseek(opened[0], 0, 0)
            for stream in OUTPUTS:
                opened.append(_file_for(stream, state) or os.dup(out))  # noqa: PERF401 - the second may fail
            # above 0, 1 and 2: else the first dup2 could close what the next one needs
            high += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in opened]
            places = [(fd, place) for place, fd in enumerate(high)]
            return os.posix_spawn(
                self._path,
                self._words,
                {name: value for name, _, value in entries},
                file_actions=[
                    *((os.POSIX_SPAWN_DUP2, fd, place) for fd, place in places),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=ALL_SIGNALS,
            )
        finally:
            for fd in (*opened, *high):
                os.close(fd)

    def record(self, writer: Writer) -> None:
        """Writes its pid and start time to the journal."""
        process = look(self._pid)
        if process is not None:
            writer.write({"hook": self._pid, "start": process.start})

    def follow(self) -> Task[bool]:
        """Reads what it prints until it has ended; False when its time is over before.

        What it left running in the background may print on: nobody waits for that.
        """
        open_ = True
        while not is_dead(self._pidfd):
            reads = (self._pidfd, self._pipe) if open_ else (self._pidfd,)
            if not (yield Wait(reads=reads, until=self._until)):
                return False
            open_ = open_ and self._read()
        if open_:
            self._drain()
        return True

    def _drain(self) -> None:
        """Takes what is left in the pipe, bounded: what runs on in the background may print for ever."""
        for _ in range(_PIECES):
            if not self._read(once=True):
                return

    def _read(self, *, once: bool = False) -> bool:
        """Takes what is there; False at the end of it, with ``once`` also when there is nothing now."""
        try:
            piece = os.read(self._pipe, 65536)
        except BlockingIOError:
            return not once
        self._tail = (self._tail + piece)[-_TAIL:]
        return bool(piece)

    def kill(self) -> None:
        """Kills it and its process group, which has its number until it is reaped."""
        try:
            os.killpg(self._pid, 9)
        except ProcessLookupError:
            return

    def end(self) -> Task[None]:
        """Kills it with its children, waits for its end and reads the last of its words."""
        self.kill()
        yield Wait(reads=(self._pidfd,), until=time.monotonic() + _PATIENCE)
        self._drain()

    def judge(self) -> None:
        """Raises HookError unless it has ended with status 0."""
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or ended.si_status:
            exited = ended is not None and ended.si_code == os.CLD_EXITED
            status = ended.si_status if ended is not None else 0
            raise self.failed(f"exit status {status}" if exited else f"killed by signal {status}")

    def failed(self, how: str, errno: int = 0) -> HookError:
        """The error: which hook, what it was called with, how it ended, and the last it printed."""
        from ocirun.executor.explain import hook_error, why_no_hook

        hint = why_no_hook(self._path) if errno else ""
        return hook_error(self._pointer, self._path, self._words, how, self._tail, errno, hint=hint)

    def close(self) -> None:
        """Reaps it and closes what is open."""
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        os.close(self._pidfd)
        os.close(self._pipe)


def _file_for(stream: str, state: Mapping[str, object]) -> int:
    """The file that an annotation names for what hooks print, opened to append to it; 0 where none is named.
    Raises HookError."""
    annotations: Any = state.get("annotations", {})
    name = annotations.get(stream, "")
    if not name:
        return 0
    path = paths.join(str(state["bundle"]), name)
    # O_NONBLOCK: a FIFO that nobody reads must give an error, not hang us; O_NOFOLLOW: who may write where
    # the file is, a container perhaps by the time of a later hook, must not choose another one of the host's
    flags = (
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
    )
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        number = error.errno or 0
        raise HookError(
            f"open {path} for what hooks print: {words_of(number)}",
            pointer=f"/annotations/{stream}",
            operation="open",
            path=path,
            errno=number,
        ) from error
    os.set_blocking(fd, True)
    return fd


def _inheritable() -> list[int]:
    """Descriptors that are not for a hook: those that our caller preserved for the container."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_inheritable(fd)]


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the one that the list itself was read with
        return False
