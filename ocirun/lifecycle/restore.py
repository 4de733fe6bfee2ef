"""Restores a container from a checkpoint: all around it is made as by create, and criu fills it.

criu is put into the cgroup before it begins, so that everything it makes is in there, and is ended with it
when something fails.  What it tells on the way:

    setup-namespaces     init is there: the hooks of create run, as with runc
    orphan-pts-master    the master of the terminal, for who holds it
    post-restore         all processes are there and stand still: limits, owner and devices of the cgroup
"""

from __future__ import annotations

import os

from ocirun import config as reading
from ocirun import full, journal, paths
from ocirun.criu import becoming, failure, mounts, requests, service
from ocirun.errors import ConfigError, Fault, HostError, words_of
from ocirun.executor.run import Execution, Observer, execute
from ocirun.files import read_file, read_regular, write_file
from ocirun.jsontext import loads
from ocirun.lifecycle import loopback
from ocirun.lifecycle.accompany import accompany
from ocirun.lifecycle.caller import check_terminal
from ocirun.lifecycle.checkpoint import check_root
from ocirun.lifecycle.console import Proxy, send_console
from ocirun.lifecycle.create import (
    Container,
    check_cause,
    check_room,
    end_init,
    hand_out,
    in_cgroup_performer,
    own_new,
    performers_of,
    plan_of,
    undo_made,
)
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.frozen import freeze
from ocirun.lifecycle.hooks import run_hooks, state_for
from ocirun.lifecycle.images import DESCRIPTORS
from ocirun.lifecycle.pidfile import write_pid_file
from ocirun.lifecycle.process import look
from ocirun.lifecycle.record import Recorder, head
from ocirun.lifecycle.resolve import make_places, resolver
from ocirun.lifecycle.undo import despite
from ocirun.plan.compile import compile_plan
from ocirun.planner.draft import SYSTEMD
from ocirun.planner.ownership import DELEGATE
from ocirun.planner.restoring import plan_restore, plan_root

#: More than the names of three descriptors ever take.
_MOST = 1 << 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeGuard

    from ocirun.cgroup.restoring import Before
    from ocirun.cgroup.systemd import Manager
    from ocirun.config import Document
    from ocirun.executor.run import Performer
    from ocirun.lifecycle.accompany import Signals
    from ocirun.lifecycle.create import CreateOptions
    from ocirun.lifecycle.root_trees import RootTrees
    from ocirun.lifecycle.store import Lock, Store
    from ocirun.plan.model import Plan, Step
    from ocirun.waiting import Task

LOG = "restore.log"
#: How criu's names begin of what our own 0, 1 and 2 take the place of.
_OURS = ("pipe:", "file[")


def restore(
    store: Store, container: str, options: CreateOptions, wanted: requests.Restore
) -> Task[Container]:
    """Makes ``container`` from a bundle and the images of a checkpoint; it runs when this returns.

    Raises as ``create`` does, and HostError where there is no checkpoint, criu is missing or fails.
    Whatever it raises, nothing is left behind but criu's log.
    """
    check_root("restore")
    if options.cgroup_manager != SYSTEMD:
        return (yield from _restore(store, container, options, wanted, None))
    full.become_full()
    from ocirun.cgroup.systemd import manager

    connected = yield from manager()
    try:
        return (yield from _restore(store, container, options, wanted, connected))
    finally:
        connected.close()


def check(options: CreateOptions, wanted: requests.Restore) -> None:
    """Raises what ``restore`` would, as far as it is known before it begins: for who restores later."""
    check_root("restore")
    _Restoration(_document(options), options, wanted).close()


def _document(options: CreateOptions) -> Document:
    """The config of the bundle, which can be restored."""
    document = reading.load(paths.join(options.bundle, "config.json"))
    check_terminal(
        wanted=bool(document.config.get("process", {}).get("terminal")),
        console_socket=options.console_socket,
        foreground=options.foreground,
    )
    _check(document)
    return document


def _restore(
    store: Store,
    container: str,
    options: CreateOptions,
    wanted: requests.Restore,
    systemd: Manager | None,
) -> Task[Container]:
    directory = store.directory(container)
    document = _document(options)
    restoration = _Restoration(document, options, wanted)
    try:
        planned = yield from plan_of(document, container, store, options, systemd)
        _check_cgroup(planned)
        for fault in (*document.warnings, *planned.warnings):
            document.locate(fault)
            options.warn(fault)
        check_room(options.preserve_fds)
        lock = yield from own_new(store.make(container))
        try:
            return (yield from restoration.run(lock, planned, systemd))
        except BaseException as error:
            yield from despite(error, "undoing", undo_made(lock, options))
            check_cause(error, document, directory)
            raise
        finally:
            lock.close()
    finally:
        restoration.close()


def _check(document: Document) -> None:
    """Raises ConfigError for what a container has only when it is created."""
    faults: list[Fault] = []
    if document.config.get("linux", {}).get("netDevices"):
        faults.append(Fault("/linux/netDevices", "cannot be restored: a checkpoint has no networks in it"))
    if DELEGATE in document.config.get("annotations", {}):
        rule = "cannot be restored: criu puts all processes into one cgroup"
        faults.append(Fault(f"/annotations/{DELEGATE}", rule))
    if faults:
        error = ConfigError(faults, code="config-unsupported")
        document.locate(error)
        raise error


def _check_cgroup(planned: Plan) -> None:
    """Raises HostError for a container without a cgroup: what criu has made so far ends with that alone."""
    if planned.without_cgroup:
        raise HostError(
            "a container without a cgroup cannot be restored: what a failed one leaves could not be found",
            hint="choose another --cgroup-manager",
        )


def _failed(doing: str, error: OSError) -> HostError:
    """What went wrong beside criu."""
    return HostError(
        f"{doing}: {words_of(error.errno or 0)}", operation=doing, errno=error.errno or 0, code="criu"
    )


class _Restoration:
    """One restore: the open images, criu, and the container as it comes to be."""

    __slots__ = (
        "_before", "_config", "_criu", "_descriptors", "_document", "_execution", "_images", "_mounts",
        "_namespaces", "_options", "_program", "_trees", "_wanted", "_work",
    )  # fmt: skip

    def __init__(self, document: Document, options: CreateOptions, wanted: requests.Restore) -> None:
        self._document = document
        self._config = document.config
        self._options = options
        self._wanted = wanted
        self._execution = Execution()
        self._criu: service.Service | None = None
        self._before: list[Before] = []
        self._namespaces: list[tuple[str, int]] = []
        #: Names and sources of what is mounted from outside.
        self._mounts: list[tuple[str, str]] = []
        self._trees: RootTrees | None = None
        self._program = service.find()
        self._images = service.directory(wanted.images, make=False)
        self._work = -1
        try:
            self._work = service.directory(wanted.work, make=True)
            self._descriptors = _read_descriptors(wanted.images)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes what is open but the pidfd of init."""
        if self._trees is not None:
            self._trees.close()
        self._execution.close(keep=("console",) if self._options.foreground else ())
        for fd in (self._images, self._work, *(fd for _, fd in self._namespaces)):
            if fd >= 0:
                os.close(fd)

    def run(self, lock: Lock, planned: Plan, systemd: Manager | None) -> Task[Container]:
        """All of it, in the state directory held by ``lock``."""
        freeze(lock.path, self._document.source)
        first, after = plan_restore(planned)
        writer = journal.Writer(lock.path)
        try:
            told = head(lock.container, self._document, self._options.bundle)
            writer.write(told)
            recorder = Recorder(writer, planned, self._document, self._options.warn)
            yield from self._open_root(planned)
            yield from self._start(str(told["rootfs"]), os.path.realpath(lock.path), writer)
            performers = self._performers(writer, systemd, lock.path)
            yield from execute(compile_plan(first), performers, recorder, self._execution)
            self._enter(journal.read(lock.path).home)

            def notified(name: str, pid: int, fds: list[int]) -> Task[None]:
                if pid and not self._execution.pid:
                    self._execution.pid, self._execution.pidfd = pid, _open_process(pid)
                    recorder.born(pid)
                if name == "setup-namespaces":
                    yield from self._set_loopback_up()
                    yield from self._run_hooks(told, writer)
                elif name == "orphan-pts-master":
                    yield from self._take_console(fds)
                elif name == "post-restore":
                    yield from execute(compile_plan(after), performers, recorder, Execution())

            yield from self._fill(os.path.realpath(lock.path), notified)
            yield from self._tell(writer)
        except BaseException as error:
            yield from self._give_up(error, first)
            if self._execution.pidfd >= 0:  # closed, it could not wait for the end of init
                os.close(self._execution.pidfd)
            self._execution.close()  # the terminal, too: nobody will get it
            raise
        finally:
            writer.close()
        execution = self._execution
        return Container(lock.container, execution.pid, execution.pidfd, execution.slots.get("console", -1))

    def _performers(
        self, writer: journal.Writer, systemd: Manager | None, directory: str
    ) -> dict[str, Performer]:
        found = performers_of(self._options, writer, self._execution, directory)
        in_cgroup = in_cgroup_performer(self._execution, self._before, self._options.warn)
        found.update(set_cgroup=in_cgroup, own_cgroup=in_cgroup, limit_processes=in_cgroup)
        found["enter_resctrl"] = self._enter_class
        if systemd is not None:
            from ocirun.lifecycle.systemd import scope_performer

            found["make_scope"] = scope_performer(systemd, writer, self._execution, directory)
        return found

    def _open_root(self, planned: Plan) -> Task[None]:
        """The mounts that make the root file system, where it is no directory of the host."""
        opening = plan_root(planned)
        if not opening.steps:
            return
        from ocirun.lifecycle.root_trees import RootTrees

        self._trees = RootTrees()
        execution = Execution()
        try:
            program = compile_plan(opening)
            yield from execute(program, {"keep_tree": self._trees.keep}, Observer(), execution)
        finally:
            execution.close()

    def _start(self, rootfs: str, place: str, writer: journal.Writer) -> Task[None]:
        """Starts criu, which waits, with the root file system mounted where it can restore."""
        wanted = self._wanted
        for path, name in requests.external_paths(self._config):
            self._namespaces.append((name, _open_namespace(path)))
        _remove(self._work, LOG)  # that of an earlier one would say why this one failed
        stdio = self._options.stdio or (0, 1, 2)
        more = [fd for _, fd in self._namespaces]

        def prepare() -> tuple[object, Sequence[int]]:
            becoming.leave_mounts()
            if self._trees is None:
                becoming.bind(rootfs, place)
            else:
                self._trees.attach(place)
            make_places(place, self._config, self._options.bundle)
            found = mounts.of_restore(self._config, self._options.bundle, resolver(place))
            # criu mounts below directories of its own mounts, and can do so nowhere else
            return found, [service.directory(path, make=False) for path in (wanted.images, wanted.work)]

        keep = () if self._trees is None else self._trees.descriptors
        self._criu = service.Service(
            self._program, stdio, more, session=wanted.shell_job, prepare=prepare, keep=keep
        )
        self._execution.stage = self._criu.pid  # systemd puts it into the scope
        process = look(self._criu.pid)
        if process is not None:  # `delete --force` ends it as it does a hook: it may wait for a server
            writer.write({"hook": self._criu.pid, "start": process.start})
        self._mounts, fds = yield from self._criu.begun()
        before = self._images, self._work
        self._images, self._work = fds
        for fd in before:
            os.close(fd)

    def _enter(self, cgroup: str) -> None:
        """Puts criu into the cgroup of the container."""
        self._execution.stage = 0  # it is not the executor's to reap
        if cgroup:
            assert self._criu is not None
            try:
                write_file(f"{cgroup}/cgroup.procs", str(self._criu.pid).encode())
            except OSError as error:
                raise _failed(f"put criu into {cgroup}", error) from error

    def _enter_class(self, step: Step, slots: dict[str, int]) -> Task[None]:
        """Has criu in it, from which all threads come: afterwards only one would be moved (resctrl.rst)."""
        del slots
        yield from ()
        from ocirun.lifecycle.resctrl_steps import perform

        assert self._criu is not None
        perform(step, self._criu.pid)

    def _fill(self, root: str, notified: service.Notified) -> Task[None]:
        """Has criu restore all processes below ``root``."""
        assert self._criu is not None
        inherited = [*self._descriptors, *((name, 4 + at) for at, (name, _) in enumerate(self._namespaces))]
        fields = [
            *requests.common(self._wanted, self._config, self._images, self._work, LOG),
            *requests.restore(self._wanted, root, _cgroups(self._criu.pid), self._mounts, inherited),
            *requests.joined(self._config),
        ]
        answer = yield from self._criu.ask(requests.request(requests.RESTORE, fields), notified)
        failure.judge("restore", f"{self._wanted.work}/{LOG}", answer)
        yield from self._criu.end()

    def _set_loopback_up(self) -> Task[None]:
        """As at create: criu leaves a new network empty, and who listens there could not be restored."""
        listed = self._config.get("linux", {}).get("namespaces", ())
        if any(one["type"] == "network" and not one.get("path") for one in listed):
            yield from loopback.set_up(self._execution.pid)

    def _run_hooks(self, told: dict[str, object], writer: journal.Writer) -> Task[None]:
        state = state_for(told, "created", self._execution.pid)
        yield from run_hooks(self._config, "prestart", state, writer)
        yield from run_hooks(self._config, "createRuntime", state, writer)

    def _take_console(self, fds: list[int]) -> Task[None]:
        if self._options.console_socket and fds:
            yield from send_console(self._options.console_socket, fds[0])
        elif self._options.foreground and fds:
            self._execution.slots["console"] = fds.pop(0)

    def _tell(self, writer: journal.Writer) -> Task[None]:
        """Who wants to know that it runs: the journal first, then files and sockets."""
        yield from hand_out(self._options, self._config, self._execution.pidfd)
        writer.write({"created": True, "started": True, "restored": True})
        if self._options.pid_file:
            write_pid_file(self._options.pid_file, self._execution.pid)

    def _give_up(self, error: BaseException, first: Plan) -> Task[None]:
        """Ends criu and what it has made so far; the rest is in the cgroup, which the undo kills."""
        for limits in self._before:
            limits.restore()
        if self._criu is not None:
            yield from despite(error, "ending criu", self._criu.end(at_once=True))
            self._criu.abandon()
        yield from despite(error, "ending init", end_init(self._execution, first))


def _read_descriptors(images: str) -> list[tuple[str, int]]:
    """What 0, 1 and 2 were, as far as ours take their place: pipes, and files from outside."""
    try:
        source = read_regular(f"{images}/{DESCRIPTORS}", _MOST)  # an archive that was unpacked holds anything
        told = loads(source.decode("utf-8", "surrogateescape"))
    except (OSError, ValueError) as error:
        why = words_of(error.errno or 0) if isinstance(error, OSError) else "it is damaged"
        raise HostError(
            f"no checkpoint in {images}: {DESCRIPTORS}: {why}",
            errno=error.errno or 0 if isinstance(error, OSError) else 0,
            path=images,
            hint="--image-path is the directory that a checkpoint was written to",
            code="criu",
        ) from error
    if not _is_array(told):
        return []
    return [(name, fd) for fd, name in enumerate(told) if isinstance(name, str) and name[:5] in _OURS]


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _open_namespace(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"open the namespace {path}: {words_of(error.errno or 0)}",
            errno=error.errno or 0,
            path=path,
            pointer="/linux/namespaces",
            hint="the checkpoint left it out: it must be there",
        ) from error


def _open_process(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise _failed(f"look at process {pid}, the restored init", error) from error


def _cgroups(pid: int) -> list[tuple[str, str]]:
    """The controllers and the cgroups of a process: where criu is, there the container is to be."""
    try:
        lines = read_file(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape").split("\n")
    except OSError as error:
        raise _failed("find the cgroup of criu", error) from error
    found = [line.split(":", 2) for line in lines if line]
    return [(controllers, path) for _, controllers, path in found]


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def restore_and_accompany(
    store: Store,
    container: str,
    options: CreateOptions,
    wanted: requests.Restore,
    *,
    detach: bool,
    signals: Signals,
) -> Task[int]:
    """Restores a container and gives its exit status, as ``run`` does: with ``detach`` 0 at once, else when
    it has ended and is deleted."""
    made = yield from restore(store, container, options, wanted)
    proxy: Proxy | None = None
    try:
        if made.console >= 0:
            proxy = Proxy(made.console)
        if detach:
            return 0
        signals.hand_over()
        status = yield from accompany(made.pidfd, proxy, signals, options.warn)
    except BaseException as error:
        yield from despite(error, "deleting", delete(store, container, force=True, warn=options.warn))
        raise
    finally:
        if proxy is not None:
            proxy.close()
        os.close(made.pidfd)
    yield from delete(store, container, force=True, warn=options.warn)
    return status
