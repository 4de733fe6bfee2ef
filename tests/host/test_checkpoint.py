"""Checkpoints, told by what the processes do before and after, and by what /proc says of them.

criu has to be installed, and needs a stock kernel: the full guest of tests/vm has both.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.host import checkpoints, execs, limits, observe, terminals
from tests.host.checkpoints import counted, counting, counts_on, restore, take
from tests.host.runtimes import new_id
from tests.host.terminals import ConsoleSocket
from tests.host.test_hooks import add_hook

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Container, Runtime
    from tests.host.view import View

pytestmark = [
    pytest.mark.skipif(checkpoints.CRIU is None, reason="criu is not installed"),
    pytest.mark.timeout(900),
]


def test_a_container_goes_on_from_its_checkpoint(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(runtime, bundle)
    take(container, images).ok()
    assert not observe.alive(container.pid)
    runtime.call("state", container.id).refused("does not exist")
    assert (images / "inventory.img").exists()
    stood = counted(bundle)
    again = restore(runtime, bundle, images, container.id)
    assert observe.alive(again.pid)
    told = checkpoints.state(again)
    assert (told["status"], told["pid"]) == ("running", again.pid)
    counts_on(bundle)
    assert counted(bundle)[: len(stood)] == stood


def test_a_restored_container_is_an_ordinary_one(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(runtime, bundle)
    take(container, images).ok()
    again = restore(runtime, bundle, images, new_id())
    assert runtime.call("exec", again.id, "hostname").ok().stdout == "runc\n"
    assert again.pid in execs.members_of(again)
    runtime.call("pause", again.id).ok()
    observe.eventually(lambda: "frozen 1" in execs.cgroup_file(again, "cgroup.events").read_text(), "frozen")
    assert checkpoints.state(again)["status"] == "paused"
    runtime.call("resume", again.id).ok()
    counts_on(bundle)
    again.kill("KILL").ok()
    assert again.exit_status() == 128 + signal.SIGKILL
    assert checkpoints.state(again)["status"] == "stopped"
    again.delete().ok()
    runtime.call("state", again.id).refused("does not exist")


def test_a_container_can_be_left_running(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(runtime, bundle)
    take(container, images, "--leave-running").ok()
    assert checkpoints.state(container)["status"] == "running"
    counts_on(bundle)
    assert (images / "inventory.img").exists()


def test_a_checkpoint_can_be_restored_twice_and_taken_again(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    container = counting(ocirun, bundle)
    take(container, images).ok()
    first = restore(ocirun, bundle, images, container.id)
    counts_on(bundle)
    second = images.with_name("second")
    take(first, second).ok()
    stood = len(counted(bundle))
    again = restore(ocirun, bundle, second, container.id)
    counts_on(bundle)
    assert counted(bundle)[:stood] == [*range(1, stood + 1)]
    again.kill("KILL").ok()


def _properties(container: Container) -> dict[str, object]:
    """What the kernel says of init and of where it lives."""
    status = observe.status(container.pid)
    names = ("Uid", "Gid", "Groups", "CapBnd", "CapEff", "CapPrm", "NoNewPrivs", "Seccomp", "Umask")
    return {
        "status": {name: status[name] for name in names},
        "limits": observe.limits(container.pid),
        "mounts": sorted(
            # the cgroup has another name, and criu puts the words of a tmpfs in an order of its own
            (mount.point, mount.kind, sorted(mount.options))
            for mount in observe.mounts(container.pid)
        ),
        "cwd": os.readlink(f"/proc/{container.pid}/cwd"),
        "command line": observe.words(container.pid, "cmdline"),
    }


def test_what_a_container_had_it_has_again(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    bundle.user(0, 0, 7, 8, umask=0o27).cwd("/tmp")  # noqa: S108 - in the container
    container = counting(runtime, bundle)
    had = _properties(container)
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    assert _properties(again) == had


def test_what_was_masked_is_masked_again(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(ocirun, bundle)
    take(container, images).ok()
    again = restore(ocirun, bundle, images, container.id)
    assert observe.inside(again.pid, "/proc/keys").read_text() == ""
    assert [*observe.inside(again.pid, "/sys/firmware").iterdir()] == []


def test_its_namespaces_are_new_and_its_own(
    runtime: Runtime, bundle: Bundle, images: Path, own_namespaces: dict[str, str]
) -> None:
    container = counting(runtime, bundle)
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    for kind in ("pid", "net", "ipc", "uts", "mnt", "cgroup"):
        assert observe.namespace(again.pid, kind) != own_namespaces[kind]
    assert observe.namespace(again.pid, "user") == own_namespaces["user"]


def test_who_is_executed_in_it_has_its_clocks(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(runtime, bundle)
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    told = runtime.call("exec", again.id, "readlink", "/proc/self/ns/time").ok().stdout.strip()
    assert told == observe.namespace(again.pid, "time")


def test_it_is_in_the_cgroup_of_its_config(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    path = f"/{new_id()}"
    container = counting(runtime, bundle.put(path, "linux", "cgroupsPath"))
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    assert observe.cgroup(again.pid) == path


def test_its_limits_are_those_of_its_config(
    runtime: Runtime, bundle: Bundle, images: Path, view: View
) -> None:
    limits.need(view, "pids", "memory")
    bundle.put({"limit": 7}, "linux", "resources", "pids")
    bundle.put({"limit": 64 * limits.MIB}, "linux", "resources", "memory")
    container = counting(runtime, bundle)
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    assert limits.files(again, "pids.max", "memory.max") == {
        "pids.max": "7",
        "memory.max": str(64 * limits.MIB),
    }


def test_its_devices_are_those_of_its_config(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    """/dev/kmsg (1:11) is on no list, and can be made all the same."""
    script = f"mknod /dev/kmsg c 1 11; {checkpoints.COUNTING}"
    bundle.capabilities(**dict.fromkeys(("bounding", "effective", "permitted"), ("CAP_MKNOD",)))
    container = ocirun.running(bundle.writable().sh(script))
    observe.eventually((bundle.rootfs / "count").exists, "it has begun")
    take(container, images).ok()
    again = restore(ocirun, bundle, images, container.id)
    denied = ocirun.call("exec", again.id, "sh", "-c", "head -c 1 /dev/kmsg")
    assert "peration not permitted" in denied.stderr
    ocirun.call("exec", again.id, "sh", "-c", "head -c 1 /dev/zero").ok()


def test_what_is_bound_is_bound_again(runtime: Runtime, bundle: Bundle, images: Path, scratch: Path) -> None:
    (scratch / "data").mkdir()
    (scratch / "one").write_text("a file\n")
    bundle.bind(scratch / "data", "/data", "rw").bind(scratch / "one", "/etc/one", "ro")
    container = counting(runtime, bundle)
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    runtime.call("exec", again.id, "sh", "-c", "cat /etc/one > /data/copy").ok()
    assert (scratch / "data/copy").read_text() == "a file\n"
    assert "ro" in observe.mount_at(again.pid, "/etc/one").options


def test_a_mount_behind_a_link_of_the_image(
    runtime: Runtime, bundle: Bundle, images: Path, scratch: Path
) -> None:
    (scratch / "data").mkdir()
    bundle.directory("/real")
    (bundle.rootfs / "link").symlink_to("/real")
    container = counting(runtime, bundle.bind(scratch / "data", "/link/data", "rw"))
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    runtime.call("exec", again.id, "sh", "-c", "echo there > /real/data/told").ok()
    assert (scratch / "data/told").read_text() == "there\n"


def test_a_root_without_mount_points_gets_them(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    (bundle.path / "data").mkdir()
    container = counting(runtime, bundle.bind(bundle.path / "data", "/new/data", "rw"))
    take(container, images).ok()
    (bundle.rootfs / "new/data").rmdir()
    (bundle.rootfs / "new").rmdir()
    again = restore(runtime, bundle, images, container.id)
    assert observe.mount_at(again.pid, "/new/data").kind
    counts_on(bundle)


def test_the_streams_are_those_of_the_restore(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    """Standard input is /dev/null of the host and output a file of it: the peers cannot write these down.
    A file must be as long as it was, so it is that of the container."""
    container = ocirun.running(bundle.sh("n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done"))
    observe.eventually(lambda: len(container.output.split()) > 3, "it counts")
    take(container, images).ok()
    stood = len(container.output.split())
    ocirun.prefix = ("sh", "-c", 'exec "$@" >>"$0"', str(container.result.out))
    restore(ocirun, bundle, images, container.id)
    ocirun.prefix = ()
    observe.eventually(lambda: len(container.output.split()) > stood + 3, "it counts on")
    numbers = [int(word) for word in container.output.split()[:-1]]
    assert numbers == [*range(1, len(numbers) + 1)]


def test_a_pipe_is_that_of_the_restore(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    into = 'mkfifo "$0"; cat "$0" >"$0.told" & exec "$@" >"$0"'
    first, second = (images.with_name(name) for name in ("first", "second"))
    ocirun.prefix = ("sh", "-c", into, str(first))
    container = ocirun.detach(bundle.sh("n=0; while true; do n=$((n+1)); echo $n; sleep 0.02; done"))
    observe.eventually(lambda: len(_lines(first)) > 3, "it counts")
    ocirun.prefix = ()
    take(container, images).ok()
    ocirun.prefix = ("sh", "-c", into, str(second))
    restore(ocirun, bundle, images, container.id)
    ocirun.prefix = ()
    observe.eventually(lambda: len(_lines(second)) > 3, "it counts on")
    numbers = [int(word) for word in (*_lines(first), *_lines(second))]
    assert numbers == [*range(1, len(numbers) + 1)]


def _lines(fifo: Path) -> list[str]:
    """What came out of it so far, whole lines."""
    told = fifo.with_name(f"{fifo.name}.told")
    return told.read_text().rpartition("\n")[0].split() if told.exists() else []


def test_a_restore_in_the_foreground_has_the_status_of_the_program(
    runtime: Runtime, bundle: Bundle, images: Path
) -> None:
    script = f"({checkpoints.COUNTING}) & until [ -e /go ]; do sleep 0.02; done; kill $!; exit 7"
    checkpoints.fit(runtime, bundle).writable().sh(f"exec </dev/null >/out 2>&1; {script}")
    container = runtime.running(bundle)
    observe.eventually((bundle.rootfs / "count").exists, "it has begun")
    take(container, images).ok()
    stood = len(counted(bundle))
    words = ("--image-path", str(images), "--work-path", f"{images}.work", "--bundle", str(bundle.path))
    process, _ = runtime.popen("restore", *words, container.id)
    observe.eventually(lambda: len(counted(bundle)) > stood, "it goes on")
    (bundle.rootfs / "go").touch()
    assert process.wait(checkpoints.SECONDS) == 7
    runtime.call("state", container.id).refused("does not exist")


def test_a_terminal_comes_by_the_console_socket(
    runtime: Runtime, bundle: Bundle, images: Path, scratch: Path
) -> None:
    checkpoints.fit(runtime, bundle).put(True, "process", "terminal").sh(
        "echo hello; while read line; do echo got $line; done"
    )
    with ConsoleSocket(scratch / "first") as first, ConsoleSocket(scratch / "second") as second:
        container = runtime.create(bundle, "--console-socket", str(first.path))
        master = first.receive()
        container.start()
        terminals.read_until(master, "hello")
        take(container, images).ok()
        restore(runtime, bundle, images, container.id, "--console-socket", str(second.path))
        master = second.receive()
        os.write(master, b"answer\n")
        assert "got answer" in terminals.read_until(master, "got answer")


def test_a_network_by_path_is_joined_again(runtime: Runtime, bundle: Bundle, images: Path) -> None:
    here = observe.namespace("self", "net")
    container = counting(runtime, bundle.join("network", "/proc/self/ns/net"))
    assert observe.namespace(container.pid, "net") == here
    take(container, images).ok()
    again = restore(runtime, bundle, images, container.id)
    assert observe.namespace(again.pid, "net") == here


def test_who_listens_on_the_loopback_listens_again(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    """The peers leave the interface of the new network down, and have no address to listen on."""
    _need_sockets()
    script = f"exec </dev/null >/dev/null 2>&1; nc -l -p 7777 -e cat & {checkpoints.COUNTING}"
    container = ocirun.running(bundle.writable().sh(script))
    observe.eventually(lambda: len(_sockets(container.pid, "0A")) == 1, "it listens")
    observe.eventually((bundle.rootfs / "count").exists, "it has begun")
    take(container, images).ok()
    again = restore(ocirun, bundle, images, container.id)
    said = ocirun.call("exec", again.id, "sh", "-c", "echo ping | nc 127.0.0.1 7777").ok().stdout
    assert said == "ping\n"


def test_hooks_run_as_for_a_new_container(
    runtime: Runtime, bundle: Bundle, images: Path, scratch: Path
) -> None:
    log = scratch / "log"
    for kind in ("prestart", "createRuntime", "poststop"):
        pid = "$(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*$')"
        add_hook(bundle, kind, f"echo {kind} {pid if kind != 'poststop' else ''} >> {log}")
    container = counting(runtime, bundle)
    take(container, images).ok()
    told = log.read_text().splitlines()
    assert told == [f"prestart {container.pid}", f"createRuntime {container.pid}", "poststop"]
    again = restore(runtime, bundle, images, container.id)
    told = log.read_text().splitlines()[3:]
    assert told == [f"prestart {again.pid}", f"createRuntime {again.pid}"]


def test_a_hook_that_fails_leaves_nothing(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(ocirun, bundle)
    take(container, images).ok()
    add_hook(bundle, "createRuntime", "echo sorry; exit 3").write()
    done = checkpoints.attempt(ocirun, bundle, images, container.id, "--detach")
    done.refused("error running createRuntime hook #0", "sorry")
    ocirun.call("state", container.id).refused("does not exist")


def test_a_paused_container_has_a_checkpoint_as_well(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    container = counting(ocirun, bundle)
    ocirun.call("pause", container.id).ok()
    take(container, images, "--leave-running").ok()
    assert checkpoints.state(container)["status"] == "paused"
    ocirun.call("resume", container.id).ok()
    counts_on(bundle)


def test_memory_is_written_before_and_the_rest_in_the_end(
    runtime: Runtime, bundle: Bundle, images: Path
) -> None:
    if not Path("/proc/self/pagemap").exists() or not _tracks_memory():
        pytest.skip("the kernel does not track the memory that is written to")
    container = counting(runtime, bundle)
    take(container, images, "--pre-dump").ok()
    counts_on(bundle)
    last = images.with_name("last")
    take(container, last, "--parent-path", "../images").ok()
    assert (last / "parent").resolve() == images
    restore(runtime, bundle, last, container.id)
    counts_on(bundle)


def _tracks_memory() -> bool:
    """CONFIG_MEM_SOFT_DIRTY: a page that was just written has bit 55 (pagemap.rst)."""
    page = os.sysconf("SC_PAGE_SIZE")
    held = bytearray(page)
    with Path("/proc/self/clear_refs").open("w") as file:
        file.write("4")
    held[0] = 1
    import ctypes

    address = ctypes.addressof((ctypes.c_char * page).from_buffer(held))
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(address // page * 8)
        return bool(int.from_bytes(file.read(8), "little") >> 55 & 1)


#: Two programs that are connected with one another: one says something when it is let go, one writes it down.
CONNECTED = (
    "exec </dev/null >/dev/null 2>&1; "
    "while :; do sleep 0.02; done | nc -l -p 7777 >/heard & "
    "until (until [ -e /go ]; do sleep 0.02; done; echo ping) | nc 127.0.0.1 7777; "
    "do sleep 0.02; done & "
)


def _connected(runtime: Runtime, bundle: Bundle) -> Container:
    _need_sockets()
    container = runtime.running(bundle.writable().sh(CONNECTED + checkpoints.COUNTING))
    observe.eventually(lambda: len(_sockets(container.pid, "01")) == 2, "they are connected")
    observe.eventually((bundle.rootfs / "count").exists, "it has begun")
    return container


def _sockets(pid: int, state: str) -> list[str]:
    """The sockets of TCP in a state, which is a number of tcp_states.h."""
    files = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    lines = [line.split() for text in files for line in text.splitlines()[1:]]
    return [words[1] for words in lines if words[3] == state]


def test_why_criu_has_failed_is_told(ocirun: Runtime, bundle: Bundle, images: Path) -> None:
    """One process has kept a file of the host that init itself has no more."""
    script = f"while :; do sleep 0.02; done & {checkpoints.COUNTING}"
    container = ocirun.running(bundle.writable().sh(script))
    observe.eventually((bundle.rootfs / "count").exists, "it has begun")
    done = take(container, images)
    log = images.with_name("images.work") / "dump.log"
    done.refused("criu cannot checkpoint the container", "Can't lookup mount", f"its log is {log}")
    assert "Can't lookup mount" in log.read_text()
    assert [*images.iterdir()] == []
    assert checkpoints.state(container)["status"] == "running"
    counts_on(bundle)


def test_a_mount_that_was_added_is_named(
    ocirun: Runtime, bundle: Bundle, images: Path, scratch: Path
) -> None:
    (scratch / "data").mkdir()
    (scratch / "added").write_text(
        json.dumps([{"destination": "/mnt", "source": str(scratch / "data"), "options": ["bind"]}])
    )
    container = counting(ocirun, bundle.directory("mnt"))
    ocirun.call("mounts", "add", container.id, str(scratch / "added")).ok()
    take(container, images).refused("./mnt doesn't have a proper root mount", "`mounts remove` takes it away")
    ocirun.call("mounts", "remove", container.id, str(scratch / "added")).ok()
    take(container, images).ok()
    restore(ocirun, bundle, images, container.id)
    counts_on(bundle)


def _need_sockets() -> None:
    """Since Linux 6.16 only Unix sockets have SO_PASSCRED, which criu before 4.2 asks all sockets for."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)
        except OSError:
            pytest.skip("the kernel is too new for criu to write sockets down")


def test_open_connections_are_kept_when_it_is_asked_for(
    ocirun: Runtime, bundle: Bundle, images: Path
) -> None:
    container = _connected(ocirun, bundle)
    take(container, images, "--tcp-established").ok()
    again = restore(ocirun, bundle, images, container.id, "--tcp-established")
    assert len(_sockets(again.pid, "01")) == 2
    (bundle.rootfs / "go").touch()
    observe.eventually(lambda: (bundle.rootfs / "heard").read_text() == "ping\n", "it is heard")
