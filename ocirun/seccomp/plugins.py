"""Plugins of crun that decide for a seccomp filter: shared libraries, in a process that is their agent.

    int run_oci_seccomp_notify_version(void);                                           optional; gives 1
    int run_oci_seccomp_notify_start(void **opaque, struct conf *, size_t);             optional
    int run_oci_seccomp_notify_handle_request(void *opaque, struct seccomp_notif_sizes *,
                                              struct seccomp_notif *, struct seccomp_notif_resp *,
                                              int listener, int *handled);
    int run_oci_seccomp_notify_stop(void *opaque);                                      optional

Each gives 0, or a negative errno.  What they decide by is told in seccomp_unotify(2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: What a plugin says of a request: not its own, answered, answered later by itself, to go on in the kernel.
NOT_HANDLED, ANSWERED, DELAYED, CONTINUED = range(4)
_VERSION = 1
#: SECCOMP_IOCTL_NOTIF_RECV and _SEND, SECCOMP_USER_NOTIF_FLAG_CONTINUE (linux/seccomp.h).
_RECV, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
#: seccomp(2) by machine, where it is not that of the newer ones; its SECCOMP_GET_NOTIF_SIZES.
_NUMBERS = {"x86_64": 317, "i686": 354, "armv7l": 383, "ppc64le": 358, "s390x": 348}
_NEWER, _GET_SIZES = 277, 3
_PREFIX = "run_oci_seccomp_notify_"
_MAX_ERRNO = 4095


class RefusedError(Exception):
    """A plugin that is not loaded, and why."""


class Conf(ctypes.Structure):
    """What a plugin is told of the container when it starts."""

    _fields_ = [
        ("runtime_root_path", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("bundle_path", ctypes.c_char_p),
        ("oci_config_path", ctypes.c_char_p),
    ]


class Sizes(ctypes.Structure):
    """struct seccomp_notif_sizes: a newer kernel may have longer structures than this was written for."""

    _fields_ = [("notif", ctypes.c_uint16), ("resp", ctypes.c_uint16), ("data", ctypes.c_uint16)]

    notif: int
    resp: int


class _Request(ctypes.Structure):
    """The beginning of struct seccomp_notif."""

    _fields_ = [("id", ctypes.c_uint64), ("more", ctypes.c_uint8 * 72)]


class _Answer(ctypes.Structure):
    """struct seccomp_notif_resp."""

    _fields_ = [
        ("id", ctypes.c_uint64),
        ("value", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    ]


_INT, _POINTER = ctypes.c_int, ctypes.c_void_p
_Version = ctypes.CFUNCTYPE(_INT)
_Start = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, ctypes.c_size_t)
_Handle = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_Stop = ctypes.CFUNCTYPE(_INT, _POINTER)


class Plugin:
    """A library that was loaded and started."""

    __slots__ = ("_handle", "_library", "_opaque", "_stop")

    def __init__(self, path: str, conf: Conf) -> None:
        """Raises RefusedError."""
        self._library = _loaded(path)
        self._opaque = ctypes.c_void_p()
        self._check_version(path)
        try:
            self._handle = _Handle((f"{_PREFIX}handle_request", self._library))
        except AttributeError:
            raise RefusedError(f"{path} has no {_PREFIX}handle_request") from None
        self._start(path, conf)

    def _check_version(self, path: str) -> None:
        try:
            version = _Version((f"{_PREFIX}version", self._library))()
        except AttributeError:
            return
        if version != _VERSION:
            raise RefusedError(f"{path} is of version {version}, and only {_VERSION} is known")

    def _start(self, path: str, conf: Conf) -> None:
        try:
            start = _Start((f"{_PREFIX}start", self._library))
        except AttributeError:
            return
        code = start(ctypes.addressof(self._opaque), ctypes.addressof(conf), ctypes.sizeof(conf))
        if code:
            raise RefusedError(f"{path} did not start: {os.strerror(abs(code))}")

    def handle(self, sizes: Sizes, request: _Request, answer: _Answer, listener: int) -> tuple[int, int]:
        """What it says of a ``request``, and a negative errno or 0; it may have filled in the ``answer``."""
        handled = ctypes.c_int(NOT_HANDLED)
        code = self._handle(
            self._opaque,
            ctypes.addressof(sizes),
            ctypes.addressof(request),
            ctypes.addressof(answer),
            listener,
            ctypes.addressof(handled),
        )
        return handled.value, code

    def stop(self) -> None:
        """Tells it that nobody is left to decide for."""
        try:
            _Stop((f"{_PREFIX}stop", self._library))(self._opaque)
        except AttributeError:
            return


def _loaded(path: str) -> ctypes.CDLL:
    """The library at ``path``, by its real path: ld.so has $ORIGIN from it, and who asks where he is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return ctypes.CDLL(_checked(path, fd), mode=os.RTLD_NOW)
        finally:
            os.close(fd)
    except OSError as error:
        told = os.strerror(error.errno) if error.errno else str(error)
        raise RefusedError(f"{path} cannot be loaded: {told}") from error


def _checked(path: str, fd: int) -> str:
    """The real path of what is open as ``fd``; raises RefusedError where others than root and us could have
    written it, or put another in its place, there or in a directory above."""
    facts, real = os.fstat(fd), os.readlink(f"/proc/self/fd/{fd}")
    if not stat.S_ISREG(facts.st_mode):
        raise RefusedError(f"{path} is not a regular file")
    _trust(path, facts, 0)
    kept, above = 0, real
    while above != "/":
        above = str(os.path.dirname(above))
        _trust(above, os.stat(above), kept)
        kept = stat.S_ISVTX
    if not os.path.samestat(facts, os.stat(real)):
        raise RefusedError(f"{path} was exchanged while it was looked at")
    return real


def _trust(path: str, facts: os.stat_result, kept: int) -> None:
    """Raises RefusedError where others can write; a mode with a bit of ``kept`` keeps what is ours in it."""
    if facts.st_uid not in (0, os.geteuid()) or (facts.st_mode & 0o022 and not facts.st_mode & kept):
        raise RefusedError(f"{path} can be written by others than root and this user")


class Agent:
    """Decides by its plugins, in their order, what becomes of the system calls that a filter asks about."""

    __slots__ = ("_answer", "_listener", "_plugins", "_request", "_sizes")

    def __init__(self, listener: int, plugins: Sequence[Plugin]) -> None:
        self._listener = listener
        self._plugins = plugins
        self._sizes = _sizes()
        self._request = bytearray(max(self._sizes.notif, ctypes.sizeof(_Request)))
        self._answer = bytearray(max(self._sizes.resp, ctypes.sizeof(_Answer)))

    def serve(self) -> None:
        """Answers until no process is left under the filter; raises OSError when the kernel refuses us."""
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        while not waiting.poll()[0][1] & select.POLLHUP:
            self._answer_one()
        for plugin in self._plugins:
            plugin.stop()

    def _answer_one(self) -> None:
        self._request[:] = bytes(len(self._request))  # the kernel refuses what is not zeroed
        self._answer[:] = bytes(len(self._answer))
        if not self._call(_RECV, self._request):
            return
        answer = _Answer.from_buffer(self._answer)
        if self._decide(answer):
            answer.id = _Request.from_buffer(self._request).id
            self._send(answer)

    def _send(self, answer: _Answer) -> None:
        """What a plugin has filled in may be refused, as flags that the kernel does not know."""
        try:
            self._call(_SEND, self._answer)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _fail(answer, -errno.EINVAL)
            self._call(_SEND, self._answer)

    def _call(self, request: int, buffer: bytearray) -> bool:
        """False where who asked has died or was answered meanwhile, or a signal came before he asked."""
        while True:
            try:
                fcntl.ioctl(self._listener, request, buffer, True)
            except InterruptedError:
                if request == _SEND:
                    continue
                return False
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINPROGRESS):
                    return False
                raise
            return True

    def _decide(self, answer: _Answer) -> bool:
        """Fills in ``answer``; False where a plugin gives it itself."""
        request = _Request.from_buffer(self._request)
        for plugin in self._plugins:
            handled, code = plugin.handle(self._sizes, request, answer, self._listener)
            if code or handled not in (NOT_HANDLED, ANSWERED, DELAYED, CONTINUED):
                return _fail(answer, code or -errno.EINVAL)
            if handled == CONTINUED:
                answer.value = answer.error = 0  # the kernel refuses the flag with either
                answer.flags |= _CONTINUE
            if handled != NOT_HANDLED:
                return handled != DELAYED
        return _fail(answer, -errno.ENOTSUP)


def _fail(answer: _Answer, code: int) -> bool:
    answer.value, answer.flags = 0, 0
    answer.error = code if -_MAX_ERRNO <= code < 0 else -errno.EIO
    return True


def _sizes() -> Sizes:
    libc, sizes = ctypes.CDLL(None, use_errno=True), Sizes()
    number = _NUMBERS.get(os.uname().machine, _NEWER)
    if libc.syscall(ctypes.c_long(number), ctypes.c_uint(_GET_SIZES), ctypes.c_uint(0), ctypes.byref(sizes)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return sizes


def run(listener: int, paths: Sequence[str], conf: Conf) -> Agent:
    """The agent of the plugins at ``paths``, loaded and started; raises RefusedError, OSError."""
    return Agent(listener, [Plugin(path, conf) for path in paths])
