"""What /proc tells of an init process: whether it is ours, and how far it came (proc_pid_stat(5))."""

from __future__ import annotations

import errno
import fcntl
import posix as os
import select

from ocirun.errors import StateError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

#: The comm init gives itself while it waits for its start; execve replaces it.
WAITING_COMM = "ocirun-init"

_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, struct pidfd_info), its first 64 bytes: linux/pidfd.h
_PIDFD_INFO_EXIT = 1 << 3
_PF_EXITING = 0x4  # linux/sched.h


class Process:
    """One reading of /proc/PID/stat: comm, state letter, whether it has begun to exit, and start time in
    clock ticks after boot."""

    __slots__ = ("comm", "exiting", "letter", "start")

    def __init__(self, stat: bytes) -> None:
        # comm may hold any byte, also ")" and blanks: it ends at the last ")"
        head, _, tail = stat.rpartition(b")")
        fields = tail.split()
        self.comm = head.partition(b"(")[2].decode("utf-8", "replace")
        self.letter = fields[0].decode()
        self.exiting = bool(int(fields[6]) & _PF_EXITING)
        self.start = fields[19].decode()

    @property
    def dead(self) -> bool:
        """A zombie or on its way out."""
        return self.letter in "ZX"


def look(pid: int) -> Process | None:
    """The process with that pid, None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return Process(os.read(fd, 4096))
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)


def pid_namespace() -> str:
    """Which pid namespace our pids belong to (pid_namespaces(7))."""
    return os.readlink("/proc/self/ns/pid")


def open_pidfd(pid: int, start: str) -> int:
    """A pidfd of the process with that pid and start time; -1 when it is gone (pidfd_open(2)).

    The start time is read after the pidfd is open, so that the pid cannot change hands in between.
    """
    if pid <= 0:
        return -1
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return -1
    process = look(pid)
    if process is None or process.start != start:
        os.close(pidfd)
        return -1
    return pidfd


def send_signal(pidfd: int, signum: int) -> None:
    """As ``reaches``; raises StateError "container not running" when the process has ended, too."""
    if not reaches(pidfd, signum):
        raise not_running()


def reaches(pidfd: int, signum: int) -> bool:
    """Sends a signal to the process of ``pidfd``; gives whether it was still there (pidfd_send_signal(2)).

    Raises StateError for a signal that does not exist, and for a process that is not ours to signal.
    """
    try:
        _signal.pidfd_send_signal(pidfd, signum)
    except ProcessLookupError:
        return False
    except OSError as error:
        number = error.errno or 0
        what = "invalid" if number == errno.EINVAL else "cannot send the"
        hint = "it belongs to another user: be root, or that user" if number == errno.EPERM else ""
        raise StateError(f"{what} signal {signum}: {words_of(number)}", errno=number, hint=hint) from error
    return True


def not_running() -> StateError:
    """The error for a signal to a container that has stopped, in the words engines look for."""
    return StateError("container not running", hint="it has stopped: `ocirun delete` removes it")


def is_dead(pidfd: int) -> bool:
    """Whether the process of ``pidfd`` has ended (it may still be a zombie)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def exit_code(pidfd: int) -> int | None:
    """The wait status of a process that was reaped; None where the kernel cannot tell (before 6.15)."""
    info = bytearray(64)
    info[0:8] = _PIDFD_INFO_EXIT.to_bytes(8, "little")
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not int.from_bytes(info[0:8], "little") & _PIDFD_INFO_EXIT:
        return None
    return int.from_bytes(info[60:64], "little", signed=True)
