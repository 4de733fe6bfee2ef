"""The pidfd that a socket of the caller's receives, and the session keyring that is the caller's."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tests.host import execs
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from tests.host.bundles import Bundle
    from tests.host.runtimes import Runtime


def listen(path: Path) -> socket.socket:
    """A socket that waits for one who sends a descriptor."""
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(30)
    listener.bind(str(path))
    listener.listen()
    return listener


def pid_of_received(listener: socket.socket) -> int:
    """The pid behind the only descriptor that came (proc_pid_fdinfo(5))."""
    with listener.accept()[0] as caller:
        _, (pidfd,), _, _ = socket.recv_fds(caller, 100, 4)
    told = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    os.close(pidfd)
    found = re.search(r"^Pid:\s+(\d+)$", told, re.MULTILINE)
    assert found, told
    return int(found[1])


def test_the_pidfd_of_init_and_of_an_exec(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    path = scratch / "tmp/pidfd.sock"
    with listen(path) as listener:
        container = ocirun.create(bundle.sleeping(), "--pidfd-socket", str(path))
        assert pid_of_received(listener) == container.pid
        container.start()
        pid = execs.detached(container, "sleep", "1000", flags=("--pidfd-socket", str(path)))
        assert pid_of_received(listener) == pid
    path.unlink()


def test_a_pidfd_socket_where_nobody_listens(ocirun: Runtime, bundle: Bundle) -> None:
    ocirun.attempt(bundle, "--pidfd-socket", "/nowhere.sock").refused("send the pidfd", "/nowhere.sock")
    container = ocirun.running(bundle.sleeping())
    refused = ocirun.call("exec", "--pidfd-socket", "/nowhere.sock", container.id, "sleep", "1000")
    assert refused.code == 255
    assert "send the pidfd" in refused.stderr
    assert execs.members_of(container) == {container.pid}


def test_no_new_keyring_leaves_the_one_of_the_caller(runtime: Runtime, bundle: Bundle) -> None:
    bundle.put([], "linux", "maskedPaths").args("cat", "/proc/keys")
    ident = f"{new_id()}-keyring"  # root sees the keys of every container that runs beside this one
    own = runtime.run(bundle, "--no-new-keyring", ident=ident).ok().stdout
    assert ident not in own
    assert ident in runtime.run(bundle, ident=ident).ok().stdout
