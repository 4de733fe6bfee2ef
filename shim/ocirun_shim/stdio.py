"""The streams of one process: what it writes goes to its client, what the client writes goes to it.

The process has anonymous pipes or a terminal, never the client's FIFOs: so the client may go away, come back
and be restarted without a SIGPIPE or an end of file for the process.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from ocirun_shim.copying import Copier, Descriptors, FifoSink, FileSink, Sink
from ocirun_shim.stdio_paths import StdioError, open_fifo, open_file, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypedDict

    from ocirun_shim.handover import Parcel
    from ocirun_shim.loop import Loop

    class SavedStdio(TypedDict):
        """Streams as one worker hands them to the next; descriptors are places in a Parcel."""

        fds: dict[str, int]
        sinks: dict[str, str]
        lost: int
        size: tuple[int, int] | None


_OUTPUTS = ("stdout", "stderr")


class Streams:
    """What a client asked for: a path or URI for each stream, "" for none; and whether it is a terminal."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(
        self, stdin: str = "", stdout: str = "", stderr: str = "", *, terminal: bool = False
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal


class Stdio:
    """The open streams of one process; made by ``open_stdio``.

    ``child`` are the descriptors for its standard input, output and error, None with a terminal.
    """

    __slots__ = (
        "_copiers", "_drained", "_fds", "_input", "_left", "_loop", "_outputs", "_sinks", "_size", "child",
    )  # fmt: skip

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._fds = Descriptors()
        self._sinks: dict[str, Sink] = {}
        #: Of the output.
        self._copiers: list[Copier] = []
        #: How many outputs have not ended.
        self._outputs = 0
        #: What was still in the pipes when they were closed.
        self._left = 0
        self._drained: list[Callable[[], None]] = []
        self._size: tuple[int, int] | None = None
        self._input: Copier | None = None
        self.child: tuple[int, int, int] | None = None

    # -- opening ---------------------------------------------------------------------------------------------

    def _open_sinks(self, wanted: dict[str, str]) -> None:
        """Opens where the output goes; streams into one file share it, so that a loss is told once."""
        targets = {name: split(uri) for name, uri in wanted.items() if uri}
        files = [path for scheme, path in targets.values() if scheme == "file"]
        shared: dict[str, Sink] = {}
        for name, (scheme, path) in targets.items():
            if scheme == "fifo":
                (fd,) = open_fifo(path, os.O_RDWR)
                self._fds.add(f"{name} fifo", fd)
                self._sinks[name] = self._sink(f"{name} fifo", 1)
            elif path in shared:
                self._sinks[name] = shared[path]
            else:
                self._fds.add(f"{name} file", open_file(path))
                shared[path] = self._sink(f"{name} file", files.count(path))
                self._sinks[name] = shared[path]

    def _open_input(self, uri: str) -> None:
        """Opens the client's FIFO, and a writing end of our own: a client that detaches is no end of file."""
        scheme, path = split(uri)
        if scheme != "fifo":
            raise StdioError(f"standard input cannot come from {uri}", hint="give the path of a FIFO")
        # The reader first: without one, opening for writing is ENXIO.
        reader, writer = open_fifo(path, os.O_RDONLY, os.O_WRONLY)
        self._fds.add("stdin fifo", reader)
        self._fds.add("stdin kept", writer)

    def _open(self, streams: Streams) -> None:
        if streams.stdin:
            self._open_input(streams.stdin)
        wanted = {"stdout": streams.stdout}
        if not streams.terminal:
            wanted["stderr"] = streams.stderr
        self._open_sinks(wanted)
        if streams.terminal and not streams.stdout:
            # Somebody has to read a terminal, or whoever writes to it stops.
            self._fds.add("stdout file", open_file(os.devnull))
            self._sinks["stdout"] = self._sink("stdout file", 1)

    def _pipe(self, name: str, ours: int, uid: int, gid: int) -> None:
        """A pipe of which end number ``ours`` is ours, and non-blocking; the other end is the process's."""
        ends = os.pipe2(os.O_CLOEXEC)
        self._fds.add(f"{name} pipe", ends[ours])
        child = self._fds.add(f"{name} child", ends[1 - ours])
        os.set_blocking(ends[ours], False)
        if uid >= 0 or gid >= 0:
            os.fchown(child, uid, gid)  # or opening /dev/stdout again would be EACCES in a user namespace

    def _open_pipes(self, uid: int, gid: int) -> None:
        for name in ("stdin", *_OUTPUTS):
            if (name == "stdin" and "stdin fifo" in self._fds) or name in self._sinks:
                self._pipe(name, 1 if name == "stdin" else 0, uid, gid)
            else:
                mode = os.O_RDONLY if name == "stdin" else os.O_WRONLY
                self._fds.add(f"{name} child", os.open(os.devnull, mode | os.O_CLOEXEC))
        self.child = (self._fds["stdin child"], self._fds["stdout child"], self._fds["stderr child"])

    # -- copying ---------------------------------------------------------------------------------------------

    def begin(self, streams: Streams, uid: int, gid: int) -> None:
        """Opens everything and begins to copy; with a terminal, as soon as there is one.

        Raises as ``open_stdio`` says; what was opened until then ``close`` closes.
        """
        self._open(streams)
        if streams.terminal:
            self._outputs = 1  # that of the terminal, counted until it is attached
        else:
            self._open_pipes(uid, gid)
            self._copy_all()

    def _copy_all(self) -> None:
        if "stdin fifo" in self._fds:
            self._copy_input(Sink(self._fds, "stdin pipe", spliced=True))
        for name in _OUTPUTS:
            if name in self._sinks:
                self._copy_output(name, f"{name} pipe")

    def _copy_input(self, sink: Sink) -> None:
        def ended() -> None:
            self._fds.shut("stdin fifo", "stdin kept")
            if sink.name == "stdin pipe":
                sink.shut()  # a terminal has no such end: it stays open for what the process writes

        self._input = Copier(self._loop, self._fds["stdin fifo"], sink, ended)

    def _copy_output(self, name: str, source: str, *, spliced: bool = True) -> None:
        sink = self._sinks[name]

        def ended() -> None:
            if source != "master":
                self._fds.shut(source)
            sink.finish()
            self._outputs -= 1
            self._tell()

        self._outputs += 1
        self._copiers.append(Copier(self._loop, self._fds[source], sink, ended, spliced=spliced))

    def _tell(self) -> None:
        if self.drained:
            waiting, self._drained = self._drained, []
            for callback in waiting:
                callback()

    # -- the interface of processes --------------------------------------------------------------------------

    def started(self) -> None:
        """The process has its descriptors: ours of its ends are closed, or its pipes would never end."""
        self._fds.shut("stdin child", "stdout child", "stderr child")
        self.child = None

    def attach_terminal(self, master: int) -> None:
        """Takes over ``master``, the terminal of the process, and begins to copy."""
        self._fds.add("master", master)
        os.set_blocking(master, False)
        if self._size is not None:
            self.resize(*self._size)
        self._outputs -= 1  # _copy_output counts it
        self._copy_output("stdout", "master", spliced=False)
        if "stdin fifo" in self._fds:
            self._copy_input(Sink(self._fds, "master"))

    def resize(self, columns: int, rows: int) -> None:
        """Gives the terminal its size, now or once it is there (TIOCSWINSZ, ioctl_tty(2)); none: nothing."""
        self._size = (min(columns, 0xFFFF), min(rows, 0xFFFF))
        if "master" in self._fds:
            size = struct.pack("HHHH", self._size[1], self._size[0], 0, 0)
            fcntl.ioctl(self._fds["master"], termios.TIOCSWINSZ, size)

    def close_stdin(self) -> None:
        """The client wants no more input (CloseIO): standard input ends once the client's end is closed too
        and all that was written before has been passed on."""
        self._fds.shut("stdin kept")

    @property
    def drained(self) -> bool:
        """Whether no more output comes: each has ended, and all of it was passed on."""
        return not self._outputs

    @property
    def lost(self) -> int:
        """How many bytes of output were dropped: no room on the disk, or closed before anybody took them."""
        return self._left + sum(sink.lost for sink in set(self._sinks.values()))

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Calls ``callback`` once, as soon as ``drained``: now if it is already; ``close`` counts as that."""
        self._drained.append(callback)
        self._tell()

    def descriptors(self) -> dict[str, int]:
        """Everything that is open for this process, by name."""
        return self._fds.named()

    # -- from worker to worker -------------------------------------------------------------------------------

    @property
    def rests(self) -> bool:
        """Whether the process has its descriptors, and nothing of its streams is held or waited for."""
        copiers = (*self._copiers, self._input) if self._input else self._copiers
        moving = not all(copier.rests for copier in copiers)
        return (
            self.child is None
            and not (moving or self._drained)
            and all(sink.rests for sink in self._sinks.values())
        )

    def save(self, parcel: Parcel) -> SavedStdio:
        """What ``restore`` needs; only while it ``rests``."""
        return {
            "fds": {name: parcel.put(fd) for name, fd in self._fds.named().items()},
            "sinks": {name: sink.name for name, sink in self._sinks.items()},
            "lost": self.lost,
            "size": self._size,
        }

    def restore(self, saved: SavedStdio, parcel: Parcel) -> None:
        """Goes on with what ``save`` gave, in a Stdio that is new."""
        for name, place in saved["fds"].items():
            self._fds.add(name, parcel.take(place))
        self._left, self._size = saved["lost"], saved["size"]
        sources = {
            name: source
            for name in saved["sinks"]
            if (source := "master" if "master" in self._fds else f"{name} pipe") in self._fds
            and saved["sinks"][name] in self._fds  # a terminal stays when its output has ended
        }
        targets = [saved["sinks"][name] for name in sources]
        shared: dict[str, Sink] = {}
        for name, source in sources.items():
            target = saved["sinks"][name]
            if target not in shared:
                shared[target] = self._sink(target, targets.count(target))
            self._sinks[name] = shared[target]
            self._copy_output(name, source, spliced=source != "master")
        if "stdin fifo" in self._fds:
            terminal = "master" in self._fds
            self._copy_input(Sink(self._fds, "master" if terminal else "stdin pipe", spliced=not terminal))

    def _sink(self, name: str, streams: int) -> Sink:
        """The sink whose descriptor is open already."""
        if name.endswith(" fifo"):
            return FifoSink(self._fds, name, self._loop)
        return FileSink(self._fds, name, streams=streams)

    def close(self) -> None:
        """Passes on what can be passed on without waiting, counts the rest as lost and closes everything."""
        self.started()
        if self._input is not None:
            self._input.stop()
        for copier in self._copiers:
            self._left += copier.flush()
            copier.stop()
        for sink in self._sinks.values():
            sink.shut()
        self._fds.shut_all()
        self._outputs = 0
        self._tell()


def open_stdio(loop: Loop, streams: Streams, *, uid: int = -1, gid: int = -1) -> Stdio:
    """Opens the streams of a process and begins to copy; its pipes belong to ``uid`` and ``gid`` if given.

    Raises StdioError, with nothing left open, for a path or URI that cannot serve, and OSError when the host
    runs out of descriptors.
    """
    stdio = Stdio(loop)
    try:
        stdio.begin(streams, uid, gid)
    except BaseException:
        stdio.close()
        raise
    return stdio
