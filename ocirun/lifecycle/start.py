"""Starts a created container and proves that its program runs.

Both FIFOs were opened by the stage, read and write, and live in init alone.  ``start`` opens proof for
reading first, then gate for writing: ENXIO says that nobody reads the gate, so init is gone.  After the byte
init writes R to proof and executes the program; close-on-exec ends proof.  What that end means:

    R, end-of-file, alive          the program runs, unless it is about to end: its descriptors go first
    R, then E errno T head         execve failed: the reason; init waits for another byte at the gate
    end-of-file without R          init died before
    H numbers tail                 a startContainer hook failed: which, and how
    R, end-of-file, dead           its comm tells: init's own name if it died before execve, the program's
    after
"""

from __future__ import annotations

import errno
import posix as os
import time

from ocirun import full, journal
from ocirun.errors import ConfigError, HelperError, HookError, HostError, Interrupted, OcirunError, StateError
from ocirun.lifecycle.process import WAITING_COMM, exit_code, is_dead, look, open_pidfd, send_signal
from ocirun.lifecycle.state import CREATED, CREATING, PAUSED, RUNNING, State
from ocirun.lifecycle.store import state_io
from ocirun.waiting import LOOKING, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.types import Process

    from ocirun.lifecycle.store import Lock, Store
    from ocirun.waiting import Task

_PROOF_LIMIT = 8192
#: How long a process that ends may take to be dead.
_PATIENCE = 10.0
_SIGKILL = 9
_S_IFMT, _S_IFIFO = 0o170000, 0o010000


def start(store: Store, container: str) -> Task[None]:
    """Lets the program of a created container run; returns when it was executed.

    Raises StateError when the container is not in the status created, ConfigError when it has no process (and
    stays created), StepError when the program cannot be
    executed, with the reason; HookError for a startContainer or poststart hook that fails, and the container
    is deleted then.
    """
    lock = yield from store.lock(container)
    try:
        yield from start_locked(lock)
    finally:
        lock.close()


def start_locked(lock: Lock) -> Task[None]:
    """As ``start``, for a caller that holds the lock."""
    entries = journal.read(lock.path)
    now = State(lock.container, entries)
    if now.status != CREATED:
        raise _wrong_status(now.status, entries)
    if entries.head.get("program") == "":  # that of a process is never empty
        raise _without_process(lock.path)
    if entries.scope is not None and (entries.has_hooks("startContainer") or entries.has_hooks("poststart")):
        full.become_full()  # one that fails has the container deleted, and its scope
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd < 0:
        raise _wrong_status("stopped", entries)
    try:
        proof = yield from _pass_gate(lock.path, pidfd)
        if proof[:1] == b"H":
            raise _failed_hook(lock.path, entries, proof)
        try:
            yield from judge(proof, pidfd, now.pid, now.start, lambda: _process(lock.path, entries))
        finally:
            _close_handshake(lock.path, waiting=_told(proof))
        writer = journal.Writer(lock.path)
        writer.write({"started": True})
        writer.close()
    except OcirunError as error:
        short = _short_of_memory(error, entries)
        _locate(short or error, lock.path)
        fatal = isinstance(error, HelperError | HookError | Interrupted)
        if fatal and entries.has_hooks("startContainer"):
            yield from _delete_after(short or error, lock)
        if short is not None:
            raise short from error
        raise
    finally:
        os.close(pidfd)
    if entries.has_hooks("poststart"):
        yield from _poststart(lock, entries)


def _without_process(directory: str) -> ConfigError:
    from ocirun.lifecycle.caller import without_process

    error = without_process()
    _locate(error, directory)
    return error


def _poststart(lock: Lock, entries: journal.Journal) -> Task[None]:
    """Runs the poststart hooks; where one fails the container is stopped and deleted (runtime.md#lifecycle):
    the peers stop it (runc), delete it as well (crun), or let it run on (youki)."""
    from ocirun.lifecycle.frozen import frozen
    from ocirun.lifecycle.hooks import run_hooks, state_for

    writer = journal.Writer(lock.path)
    try:
        state = state_for(entries.head, RUNNING, entries.pid)
        yield from run_hooks(frozen(lock.path, entries), "poststart", state, writer)
    except BaseException as error:
        if isinstance(error, OcirunError):
            _locate(error, lock.path)
        yield from _delete_after(error, lock)
        raise
    finally:
        writer.close()


def _process(directory: str, entries: journal.Journal) -> Process:
    from ocirun.lifecycle.frozen import frozen

    process = frozen(directory, entries).get("process")
    assert process is not None  # no container is created without one
    return process


def _locate(error: OcirunError, directory: str) -> None:
    """Line and column in the config as it was frozen, which is what the container was made of."""
    if not error.pointer:
        return
    from ocirun.config import load

    try:
        load(f"{directory}/config.json").locate(error)
    except ConfigError:  # damaged since: the pointer alone must do
        return


def _delete_after(error: BaseException, lock: Lock) -> Task[None]:
    from ocirun.lifecycle.undo import despite, undo

    notes = error.add_note
    yield from despite(error, "deleting", undo(lock, warn=lambda fault: notes(fault.rule)))


def _failed_hook(directory: str, entries: journal.Journal, proof: bytes) -> OcirunError:
    from ocirun.executor.explain import failed_start_hook
    from ocirun.lifecycle.frozen import frozen

    return failed_start_hook(frozen(directory, entries).get("hooks", {}).get("startContainer", []), proof[1:])


def _short_of_memory(error: OcirunError, entries: journal.Journal) -> OcirunError | None:
    """Looks at the cgroup whether the limit of memory was too small for init."""
    from ocirun.lifecycle.memory import short_of_memory

    return short_of_memory(error, entries.counting)


def _wrong_status(status: str, entries: journal.Journal) -> OcirunError:
    """Who was created, never started and has stopped may have been killed for want of memory."""
    error = _of_status(status)
    ended = status not in (RUNNING, PAUSED, CREATING) and not entries.started
    return (_short_of_memory(error, entries) if ended else None) or error


def _of_status(status: str) -> StateError:
    words = {
        RUNNING: "cannot start an already running container",
        PAUSED: "cannot start a container in the paused state",
        CREATING: "cannot start a container that is still being created, or whose create was cut off",
    }
    hints = {RUNNING: "", PAUSED: "resume it first"}
    return StateError(
        words.get(status, "cannot start a container that has stopped"),
        hint=hints.get(status, "remove it with `ocirun delete --force` and create it again"),
    )


def _pass_gate(directory: str, pidfd: int) -> Task[bytes]:
    """Opens both FIFOs, sends the byte and collects proof until its end or the death of init."""
    proof = _open_fifo(f"{directory}/proof", os.O_RDONLY)
    try:
        _open_gate(f"{directory}/gate")
        return (yield from _collect(proof, pidfd, directory))
    finally:
        os.close(proof)


def _open_gate(path: str) -> None:
    """Lets init go on; raises StateError when nobody reads the gate any more."""
    gate = _open_fifo(path, os.O_WRONLY)
    try:
        os.write(gate, b"1")
    except BrokenPipeError:
        raise _died_waiting() from None
    finally:
        os.close(gate)


def _open_fifo(path: str, flags: int) -> int:
    """What is no FIFO is not of the handshake, and would be waited for in vain."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _died_waiting() from None
        raise state_io(error, "open", path) from error
    if os.fstat(fd).st_mode & _S_IFMT == _S_IFIFO:
        return fd
    os.close(fd)
    raise StateError(f"{path} is no FIFO any more", path=path, code="state-io", hint="delete the container")


def _died_waiting() -> StateError:
    return StateError(
        "cannot start a container that has stopped", hint="its init was killed while it waited for start"
    )


def _collect(proof: int, pidfd: int, directory: str) -> Task[bytes]:
    """What init wrote until every writer is gone.

    The death of init is awaited too, but ends nothing by itself: what it wrote last must still be read.
    Raises HostError, and init is killed, where the agent of its filter keeps it from its program.
    """
    collected = b""
    dead = False
    seen = b""
    until = time.monotonic() + LOOKING
    while len(collected) < _PROOF_LIMIT and not _told(collected):
        try:
            chunk = os.read(proof, 4096)
        except BlockingIOError:
            if dead:
                break
            if not (yield Wait(reads=(proof, pidfd), until=until)):
                seen = _end_unanswered(directory, pidfd, seen)
                until = time.monotonic() + LOOKING
            dead = is_dead(pidfd)
            continue
        if not chunk:
            break
        collected += chunk
    return collected


def _end_unanswered(directory: str, pidfd: int, seen: bytes) -> bytes:
    """As check_agent; an agent that answers later must not start a program of which we have said that it does
    not run."""
    from ocirun.lifecycle.listener import check_agent

    try:
        return check_agent(directory, seen)
    except HostError:
        send_signal(pidfd, _SIGKILL)
        raise


def _told(proof: bytes) -> bool:
    """Whether init has told all of an execve that failed, and waits at the gate."""
    if proof[1:2] != b"E":
        return False
    from ocirun.executor.run import refused

    return refused(proof)


def _close_handshake(directory: str, *, waiting: bool) -> None:
    """Lets an init go that waits at the gate, and removes the FIFOs.

    Opened for reading as well, the gate takes the byte though nobody may wait any more (fifo(7)).
    """
    if waiting:
        gate = os.open(f"{directory}/gate", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.write(gate, b"1")
        os.close(gate)
    os.unlink(f"{directory}/gate")
    os.unlink(f"{directory}/proof")


def judge(proof: bytes, pidfd: int, pid: int, start: str, process: Callable[[], Process]) -> Task[None]:
    """Raises StepError or StateError unless ``proof`` and the fate of process ``pid``, which began at
    ``start``, say that the program of ``process`` was executed."""
    if proof[1:2] == b"E":
        from ocirun.executor.program import explain_exec, failed_exec

        wanted = process()
        number = int.from_bytes(proof[2:6], "little", signed=True)
        error = failed_exec(wanted.get("args", [""])[0], number, proof[7:])
        if _told(proof) and not is_dead(pidfd):
            yield from explain_exec(error, pid, wanted)
        raise error
    if proof == b"R":
        if not is_dead(pidfd) and not _is_ending(pid):
            return
        yield Wait(reads=(pidfd,), until=time.monotonic() + _PATIENCE)
        if _program_ran(pidfd, pid, start):
            return
    raise StateError(
        "init died before it executed the program",
        hint="somebody sent it SIGKILL, or the memory limit of the container is too small for it",
    )


def _is_ending(pid: int) -> bool:
    """Whether a process that is not dead yet has begun to end: its memory goes before its descriptors, whose
    end would look like that of an execve (kernel/exit.c, do_exit), and its exe with the memory (proc(5))."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return True
    except OSError:  # not ours to see
        return False
    return False


def _program_ran(pidfd: int, pid: int, start: str) -> bool:
    """Whether an init that is dead by now had executed the program.

    A zombie still has its comm.  Where it was reaped already the kernel may know the wait status: the helper
    never exits without an E in the proof, so a plain exit is the program's; a death by signal proves nothing.
    """
    process = look(pid)
    if process is not None and process.start == start:
        return process.comm != WAITING_COMM
    status = exit_code(pidfd)
    return status is None or not status & 0x7F
