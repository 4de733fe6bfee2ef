"""Whom a zygote serves, what it makes of bad requests, and when it ends."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host import observe, shims
from tests.host.shims import Shims

NOBODY = 65534

#: Connects, sends, and prints what it gets: "refused" is the end of the connection without an answer.
CLIENT = """
import socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
client.settimeout(20)
client.connect(sys.argv[1])
try:
    client.send(bytes.fromhex(sys.argv[2]))
    answer = client.recv(16)
except ConnectionError:
    answer = b""
print(answer.hex() or "refused")
"""

#: Makes a zygote with little patience, in this process.
IMPATIENT = """
import os, socket, sys, types
from ocirun_shim import bootstrap, sockets, zygote
from ocirun_shim.engine import Versions
from ocirun_shim.identity import Identity
bootstrap.preload()
path = sys.argv[1]
sys.modules["ocirun.code"] = types.ModuleType("ocirun.code")
sys.modules["ocirun.code"].__file__ = path + ".py"
with sockets.Lock(os.path.dirname(path)):
    listener = sockets.bind(path, socket.SOCK_SEQPACKET)
one = zygote.Zygote(listener, path, Identity("self"), sys.argv[2], Versions())
one.idle = float(sys.argv[3])
one.run()
"""


def packet(*words: str) -> bytes:
    """A request with these arguments."""
    return b"".join(b"a" + word.encode() + b"\0" for word in words)


def good_packet() -> bytes:
    """What the stub would send for the container "other"."""
    return packet(*shims.command("other", "start")[1:])


def sent_from(prefix: list[str], request: bytes) -> str:
    """What a client gets that runs behind ``prefix``."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", CLIENT, shims.zygote_socket(), request.hex()],
        capture_output=True, text=True, timeout=shims.TIMEOUT, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_process_like_the_stub_is_accepted_and_others_are_not(ours: Shims) -> None:
    ours.start("c1")
    assert sent_from([], good_packet()) == "00"
    others = [
        ["unshare", "--net"], ["unshare", "--pid", "--fork"], ["unshare", "--mount"],
        ["unshare", "--user", "--map-root-user"], ["setpriv", "--bounding-set", "-sys_admin"],
        ["setpriv", "--no-new-privs"], ["setpriv", "--groups", "1"],
        ["setpriv", "--regid", "1", "--clear-groups"],
    ]  # fmt: skip
    for prefix in others:
        assert sent_from(prefix, good_packet()) == "refused", prefix


def test_another_user_is_refused_even_where_the_directory_lets_him_in(ours: Shims) -> None:
    ours.start("c1")
    shims.ZYGOTES.chmod(0o755)
    Path(shims.zygote_socket()).chmod(0o666)
    assert sent_from(["setpriv", "--reuid", str(NOBODY), "--clear-groups"], good_packet()) == "refused"
    shims.ZYGOTES.chmod(0o700)
    ours.start("c2")


def test_no_zygote_is_made_in_a_directory_that_others_can_write(ours: Shims) -> None:
    shims.ZYGOTES.mkdir(mode=0o777)
    shims.ZYGOTES.chmod(0o777)
    ours.start("c1")
    assert shims.processes("ocirun-zygote") == []


@pytest.mark.parametrize(
    "prefix",
    [["unshare", "--net"], ["setpriv", "--bounding-set", "-sys_time"]],
    ids=["network", "capability"],
)
def test_a_stub_that_differs_gets_a_shim_that_differs(ours: Shims, prefix: list[str]) -> None:
    ours.start("c1")
    ours.start("c2", prefix=prefix)
    same, other = shims.the_shim("c1"), shims.the_shim("c2")
    assert (observe.namespace(same, "net"), observe.status(same)["CapBnd"]) != (
        observe.namespace(other, "net"), observe.status(other)["CapBnd"],
    )  # fmt: skip


def test_bad_requests_are_refused_and_hurt_nobody(ours: Shims) -> None:
    ours.start("c1")
    zygote = shims.the_zygote()
    numbers = random.Random(1)  # noqa: S311 - the same garbage every time
    bad = [
        b"", b"\0", b"a", b"astart", packet("-nonsense", "start"), packet("start"), b"xstart\0", b"e=\0",
        packet("-namespace", "ns", "-id", "c"),
        packet("-address", "/x", "-id", "c", "-namespace", "ns", "start"),
        packet("x" * 65000, "y" * 65000), b"\xff" * 1000, *(numbers.randbytes(300) for _ in range(20)),
    ]  # fmt: skip
    for request in bad:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(20)
            client.connect(shims.zygote_socket())
            assert refused(client, request), request
    mute = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(20)]
    for client in mute:
        client.connect(shims.zygote_socket())
    assert ours.start("c2")["address"] == shims.address_of("c2")
    assert shims.the_zygote() == zygote or len(shims.processes("ocirun-zygote")) > 1
    for client in mute:
        client.close()
    observe.eventually(lambda: shims.processes("ocirun-zygote") == [zygote], "its children are gone")


def refused(client: socket.socket, request: bytes) -> bool:
    """Whether the connection ends without an answer."""
    try:
        client.send(request)
        return client.recv(16) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("count", [0, 3, 5])
def test_an_accepted_client_that_sends_other_descriptors_gets_nothing(ours: Shims, count: int) -> None:
    ours.start("c1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(20)
        client.connect(shims.zygote_socket())
        client.send(good_packet())
        assert client.recv(16) == b"\0"
        socket.send_fds(client, [b"x"], [0] * count)
        assert client.recv(16) == b""
    shims.expect(1)


def test_a_request_that_is_too_long_for_the_zygote_is_done_without_it(ours: Shims) -> None:
    ours.start("c1")
    zygote = shims.the_zygote()
    ours.start("c2", flags=("-debug-socket", "x" * 70000))
    assert int(observe.status(shims.the_shim("c2"))["PPid"]) != zygote


def impatient(directory: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A zygote that ends after so many idle seconds; zygote.py in its directory counts as its code."""
    directory.mkdir(mode=0o700)
    (directory / "zygote.py").write_text("")
    path = directory / "zygote"
    return subprocess.Popen([sys.executable, "-c", IMPATIENT, str(path), shims.CONTAINERD, str(seconds)])


def ends_when_it_looks(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; it looks once a second, when something happens."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGCHLD)
    return process.poll() is not None


def test_an_idle_zygote_ends_and_takes_its_socket_along(ours: Shims) -> None:
    with impatient(shims.RUN / "z", 0.3) as process:
        assert process.wait(shims.TIMEOUT) == 0
    assert [path.name for path in (shims.RUN / "z").iterdir()] == ["zygote.py"]


@pytest.mark.parametrize("gone", ["zygote", "zygote.py"], ids=["socket", "code"])
def test_a_zygote_whose_socket_or_code_was_replaced_ends(ours: Shims, gone: str) -> None:
    with impatient(shims.RUN / "z", 1000) as process:
        replaced = shims.RUN / "z" / gone
        observe.eventually(lambda: shims.processes("ocirun-zygote") != [], "it waits")
        replaced.unlink()
        replaced.write_text("of another")
        observe.eventually(lambda: ends_when_it_looks(process), "it looks, and ends")
        assert process.returncode == 0
    assert replaced.read_text() == "of another"


def test_a_zygote_that_is_asked_to_ends_and_its_shims_stay(ours: Shims) -> None:
    ours.start("c1")
    ours.start("c2")
    zygote = shims.the_zygote()
    os.kill(zygote, signal.SIGTERM)
    observe.eventually(lambda: not observe.alive(zygote), "it has ended")
    assert list(shims.ZYGOTES.iterdir()) == []
    shims.expect(2)
