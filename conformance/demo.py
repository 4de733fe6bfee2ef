"""What ``make demo`` shows: a container that the host reaches over a network, its plan, and a broken config.

Everything printed comes from the runs themselves.  Needs root, and busybox-static for the root file system.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pyroute2 import IPRoute, NetlinkError, NetNS

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

OCIRUN = Path(sys.executable).with_name("ocirun")
BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "hostname", "uname", "ip", "nc")
OURSELVES = os.getpid()
ENDING = (signal.SIGINT, signal.SIGTERM)
PORT = 8080
SECONDS = 10.0

#: For tests of networks (RFC 2544), so that no address of the machine is in the way.
POOL = ipaddress.IPv4Network("198.18.0.0/15")

PROGRAM = f"""\
echo "  name     $(hostname)"
echo "  kernel   $(uname -sr)"
ip -4 -o addr show dev eth0 | {{ read -r _ name _ address _; echo "  address  $address on $name"; }}
printf 'you have reached %s\\n' "$(hostname)" | nc -l -p {PORT}
"""


class DemoError(Exception):
    """The demonstration cannot go on; the message says why."""


def main() -> None:
    """Shows all of it and cleans up; exits with 1 and the reason when something is not as it should be."""
    for signum in ENDING:
        signal.signal(signum, end)
    name = f"demo-{secrets.token_hex(3)}"
    try:
        with tempfile.TemporaryDirectory(prefix="ocirun-demo-") as directory:
            demonstrate(Path(directory, name), Path(directory, "state"))
    except (DemoError, NetlinkError, OSError) as error:
        raise SystemExit(f"demo: {error}") from None
    say("That was a container, its plan and its errors. Nothing of it is left.")


def end(signum: int, frame: FrameType | None) -> NoReturn:
    """Ends as an exception, so that everything is cleaned up on the way out; in a child without a word.

    pyroute2 forks to open a socket in another namespace, and ends its child by SIGTERM: the child would clean
    up what is still in use, and empty the epoll instance that it shares with us.
    """
    del frame
    if os.getpid() != OURSELVES:
        os._exit(0)
    raise SystemExit(128 + signum)


@contextlib.contextmanager
def undisturbed() -> Generator[None]:
    """Lets the signals that end us wait: a clean-up that is cut short cleans nothing."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def demonstrate(bundle: Path, state: Path) -> None:
    """The three parts; ``bundle`` is made, and its last component is the container's name."""
    make_bundle(bundle)
    say(f"A container named {bundle.name}, on a network of its own:")
    with created(bundle, state) as pid, veth(pid) as (host, address):
        say(f"  (this is {host} on the host's end)")
        ocirun(state, "start", bundle.name)
        say(f"  the host connects to {address}:{PORT} and reads: {ask(address)}")
        wait_for_end(bundle.name, state)
    check_gone(bundle.name, state)
    say(f"\nThe plan of the same bundle (ocirun plan --bundle {bundle.name}):\n")
    ocirun(state, "plan", "--bundle", str(bundle))
    break_config(bundle)
    say("\nThe same bundle with a broken config.json (ocirun create):\n")
    ocirun(state, "create", "--bundle", str(bundle), bundle.name, expected=1)
    say("")


def say(text: str) -> None:
    """Prints at once, so that our lines and the container's come in their order."""
    print(text, flush=True)


def ocirun(state: Path, *words: str, expected: int = 0) -> None:
    """Runs ocirun with our own standard output; raises DemoError when its exit status is another."""
    code = subprocess.call([OCIRUN, "--root", state, *words], stdin=subprocess.DEVNULL)
    if code != expected:
        message = f"ocirun {' '.join(words)} ended with {code} instead of {expected}"
        raise DemoError(message)


def make_bundle(bundle: Path) -> None:
    """A root file system of busybox alone, and the config of ``ocirun spec`` with our program in it."""
    if not BUSYBOX.exists():
        message = f"{BUSYBOX} is missing: apt-get install busybox-static"
        raise DemoError(message)
    for directory in ("bin", "dev", "proc", "sys"):
        (bundle / "rootfs" / directory).mkdir(parents=True)
    shutil.copy2(BUSYBOX, bundle / "rootfs/bin/busybox")
    for applet in APPLETS:
        (bundle / "rootfs/bin" / applet).symlink_to("busybox")
    (bundle / "rootfs/demo.sh").write_text(PROGRAM)
    subprocess.run([OCIRUN, "spec", "--bundle", bundle], check=True)
    config = read_config(bundle)
    config["hostname"] = bundle.name
    config["process"].update(terminal=False, args=["sh", "/demo.sh"])
    (bundle / "config.json").write_text(json.dumps(config, indent=2))


def read_config(bundle: Path) -> dict[str, Any]:
    """The config.json of the bundle."""
    config: dict[str, Any] = json.loads((bundle / "config.json").read_bytes())
    return config


def break_config(bundle: Path) -> None:
    """Puts five faults into config.json: types, values, a missing member, a duplicate key."""
    config = read_config(bundle)
    config["process"].update(cwd="tmp", user={"uid": -1, "gid": 0})
    config["mounts"][1].pop("destination")
    config["linux"]["namespaces"][0]["type"] = "pdi"
    text = json.dumps(config, indent=2)
    text = text.replace('"hostname":', '"hostname": "twice",\n  "hostname":', 1)
    (bundle / "config.json").write_text(text)


@contextlib.contextmanager
def created(bundle: Path, state: Path) -> Generator[int]:
    """The process id of a container that waits for its start; it is deleted afterwards, whatever happened."""
    pid_file = bundle / "pid"
    words = ["create", "--bundle", str(bundle), "--pid-file", str(pid_file), bundle.name]
    try:
        ocirun(state, *words)
        yield int(pid_file.read_text())
    finally:
        with undisturbed():
            ocirun(state, "delete", "--force", bundle.name)


@contextlib.contextmanager
def veth(pid: int) -> Generator[tuple[str, str]]:
    """A veth pair into the network namespace of ``pid``: gives the two addresses, the host's and its."""
    outer = f"ocirun{secrets.token_hex(4)}"
    with IPRoute() as host:
        network = free_network(host)
        ours, theirs = map(str, network.hosts())
        peer = {"ifname": "eth0", "net_ns_fd": f"/proc/{pid}/ns/net"}
        host.link("add", ifname=outer, kind="veth", peer=peer)
        index = host.link_lookup(ifname=outer)[0]
        try:
            bring_up(host, index, ours)
            with NetNS(f"/proc/{pid}/ns/net") as inside:
                bring_up(inside, inside.link_lookup(ifname="eth0")[0], theirs)
            yield ours, theirs
        finally:
            with undisturbed():
                remove_link(host, index)
        if host.link_lookup(ifname=outer):
            message = f"the interface {outer} is still there"
            raise DemoError(message)


def remove_link(host: IPRoute, index: int) -> None:
    """Removes an interface; the kernel may have done it already, once no process of the container is left."""
    try:
        host.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def free_network(host: IPRoute) -> ipaddress.IPv4Network:
    """A network of four addresses that no address and no route of the host has to do with."""
    taken = [
        ipaddress.IPv4Network(f"{message.get('dst')}/{message['dst_len']}", strict=False)
        for message in host.get_routes(family=socket.AF_INET)
        if message.get("dst")
    ]
    subnets = POOL.subnets(new_prefix=30)
    return next(one for one in subnets if not any(one.overlaps(other) for other in taken))


def bring_up(where: IPRoute, index: int, address: str) -> None:
    """Gives an interface its address and sets it up."""
    where.addr("add", index=index, address=address, prefixlen=30)
    where.link("set", index=index, state="up")


def ask(address: str) -> str:
    """What the container answers on its port; raises DemoError when it does not within some seconds."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with socket.create_connection((address, PORT), timeout=SECONDS) as connection:
                return connection.makefile().readline().strip()
        except ConnectionRefusedError:  # it has not come so far
            if time.monotonic() > deadline:
                message = f"nobody listens on {address}:{PORT}"
                raise DemoError(message) from None
            time.sleep(0.02)


def status(name: str, state: Path) -> str:
    """The status of the container."""
    done = subprocess.run([OCIRUN, "--root", state, "state", name], check=True, capture_output=True)
    answer: str = json.loads(done.stdout)["status"]
    return answer


def wait_for_end(name: str, state: Path) -> None:
    """Waits for the program to end by itself; raises DemoError when it does not."""
    deadline = time.monotonic() + SECONDS
    while status(name, state) != "stopped":
        if time.monotonic() > deadline:
            message = f"{name} did not end"
            raise DemoError(message)
        time.sleep(0.02)


def check_gone(name: str, state: Path) -> None:
    """Raises DemoError when the runtime still knows the container."""
    listed = subprocess.run(
        [OCIRUN, "--root", state, "list", "-q"], check=True, capture_output=True, text=True
    )
    if name in listed.stdout.split():
        message = f"{name} is still listed"
        raise DemoError(message)


if __name__ == "__main__":
    if os.geteuid() != 0:
        raise SystemExit("demo: containers with a network need root")
    main()
