"""Starts a created container and proves that its program runs.

Both FIFOs were opened by the stage, read and write, and live in init alone.  ``start`` opens proof for
reading first, then gate for writing: ENXIO says that nobody reads the gate, so init is gone.  After the byte
init writes R to proof and executes the program; close-on-exec ends proof.  What that end means:

    R, end-of-file, alive          the program runs
    R, then E errno head           execve failed: the reason
    end-of-file without R          init died before
    H numbers tail                 a startContainer hook failed: which, and how
    R, end-of-file, dead           its comm tells: init's own name if it died before execve, the program's
    after
"""

from __future__ import annotations

import errno
import os

from ocirun import journal
from ocirun.errors import HelperError, HookError, Interrupted, StateError
from ocirun.lifecycle.process import WAITING_COMM, exit_code, is_dead, look, open_pidfd
from ocirun.lifecycle.state import CREATED, CREATING, PAUSED, RUNNING, State
from ocirun.waiting import Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.errors import OcirunError
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.waiting import Task

_PROOF_LIMIT = 8192


def start(store: Store, container: str) -> Task[None]:
    """Lets the program of a created container run; returns when it was executed.

    Raises StateError when the container is not in the status created, StepError when the program cannot be
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
        raise _wrong_status(now.status)
    pidfd = open_pidfd(entries.pid, entries.start)
    if pidfd < 0:
        raise _wrong_status("stopped")
    try:
        proof = yield from _pass_gate(lock.path, pidfd)
        if proof[:1] == b"H":
            raise _failed_hook(lock.path, proof)
        _close_handshake(lock.path)
        judge(proof, pidfd, now.pid, now.start, str(entries.head.get("program", "")))
        writer = journal.Writer(lock.path)
        writer.write({"started": True})
        writer.close()
    except (HelperError, HookError, Interrupted) as error:
        if entries.has_hooks("startContainer"):
            yield from _delete_after(error, lock)
        raise
    finally:
        os.close(pidfd)
    if entries.has_hooks("poststart"):
        yield from _poststart(lock, entries)


def _poststart(lock: Lock, entries: journal.Journal) -> Task[None]:
    """Runs the poststart hooks; where one fails the container is stopped and deleted (runtime.md#lifecycle):
    the peers stop it (runc), delete it as well (crun), or let it run on (youki)."""
    from ocirun.lifecycle.hooks import frozen, run_hooks, state_for

    writer = journal.Writer(lock.path)
    try:
        state = state_for(entries.head, RUNNING, entries.pid)
        yield from run_hooks(frozen(lock.path), "poststart", state, writer)
    except BaseException as error:
        yield from _delete_after(error, lock)
        raise
    finally:
        writer.close()


def _delete_after(error: BaseException, lock: Lock) -> Task[None]:
    from ocirun.lifecycle.undo import despite, undo

    notes = error.add_note
    yield from despite(error, "deleting", undo(lock, warn=lambda fault: notes(fault.rule)))


def _failed_hook(directory: str, proof: bytes) -> OcirunError:
    from ocirun.executor.explain import failed_start_hook
    from ocirun.lifecycle.hooks import frozen

    return failed_start_hook(frozen(directory).get("hooks", {}).get("startContainer", []), proof[1:])


def _wrong_status(status: str) -> StateError:
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
    proof = os.open(f"{directory}/proof", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _open_gate(f"{directory}/gate")
        return (yield from _collect(proof, pidfd))
    finally:
        os.close(proof)


def _open_gate(path: str) -> None:
    """Lets init go on; raises StateError when nobody reads the gate any more."""
    try:
        gate = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise StateError(
            "cannot start a container that has stopped", hint="its init was killed while it waited for start"
        ) from None
    try:
        os.write(gate, b"1")
    finally:
        os.close(gate)


def _collect(proof: int, pidfd: int) -> Task[bytes]:
    """What init wrote until every writer is gone.

    The death of init is awaited too, but ends nothing by itself: what it wrote last must still be read.
    """
    collected = b""
    dead = False
    while len(collected) < _PROOF_LIMIT:
        try:
            chunk = os.read(proof, 4096)
        except BlockingIOError:
            if dead:
                break
            yield Wait(reads=(proof, pidfd))
            dead = is_dead(pidfd)
            continue
        if not chunk:
            break
        collected += chunk
    return collected


def _close_handshake(directory: str) -> None:
    os.unlink(f"{directory}/gate")
    os.unlink(f"{directory}/proof")


def judge(proof: bytes, pidfd: int, pid: int, start: str, program: str) -> None:
    """Raises StepError or StateError unless ``proof`` and the fate of the process say that ``program`` was
    executed; ``start`` is the start time of ``pid``."""
    if proof[1:2] == b"E":
        from ocirun.executor.explain import failed_exec

        number = int.from_bytes(proof[2:6], "little", signed=True)
        raise failed_exec(program, number, proof[6:])
    if proof == b"R" and (not is_dead(pidfd) or _program_ran(pidfd, pid, start)):
        return
    raise StateError(
        "init died before it executed the program",
        hint="somebody sent it SIGKILL, or the memory limit of the container is too small for it",
    )


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
