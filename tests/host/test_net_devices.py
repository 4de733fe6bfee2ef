"""linux.netDevices: devices of the host that become the container's, observed in networks of the test.

runc knows them since 1.4 only; crun is asked as well.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.host import observe
from tests.host.networks import Network, addresses, ip, links
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime
    from tests.host.serving import Serving

KNOWING = pytest.mark.parametrize("runtime", ["ocirun", "crun"], indirect=True)
KEPT = {"192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64", "10.9.0.1>10.9.0.2/32"}


@pytest.fixture(autouse=True)  # made before the runtime, which needs it until it has deleted all
def network() -> Iterator[Network]:
    """A network with the pair left and right; left is up and has addresses of all kinds."""
    with Network() as made:
        made.pair("left", "right")
        for words in (
            "link set left mtu 1400 address 02:00:00:00:00:07 up",
            "address add 192.0.2.7/24 brd + dev left",
            "address add 192.0.2.8/24 dev left",
            "address add 2001:db8::7/64 dev left nodad",
            "address add 10.9.0.1 peer 10.9.0.2/32 dev left",
            "address add 198.51.100.1/24 dev left valid_lft 1000 preferred_lft 500",
            "address add 203.0.113.1/24 dev left scope link",
        ):
            ip(made.pid, *words.split())
        yield made


def moving(bundle: Bundle, **devices: str) -> Bundle:
    """``bundle`` with these devices under these names, "": their own."""
    asked: Json = {name: {"name": inside} if inside else {} for name, inside in devices.items()}
    return bundle.put(asked, "linux", "netDevices").sleeping()


@KNOWING
def test_a_device_moves_with_its_new_name_its_permanent_addresses_and_its_attributes(
    runtime: Runtime, bundle: Bundle, network: Network
) -> None:
    runtime.prefix = network.prefix
    container = runtime.running(moving(bundle, left="lan0"))
    found = links(container.pid)["lan0"]
    assert "left" not in links(network.pid)
    assert (found["mtu"], found["address"]) == (1400, "02:00:00:00:00:07")
    assert "UP" in cast("list[str]", found["flags"])
    assert addresses(container.pid, "lan0") == KEPT


@KNOWING
def test_a_device_without_a_name_keeps_its_own(runtime: Runtime, bundle: Bundle, network: Network) -> None:
    runtime.prefix = network.prefix
    container = runtime.running(moving(bundle, left="", right=""))
    assert {*links(container.pid)} >= {"lo", "left", "right"}
    assert not {*links(network.pid)} & {"left", "right"}
    assert addresses(container.pid, "left") == KEPT


@KNOWING
def test_a_template_gets_the_first_number_that_is_free(
    runtime: Runtime, bundle: Bundle, network: Network
) -> None:
    with Network() as joined:
        joined.pair("lan0", "lan2")
        path = f"/proc/{joined.pid}/ns/net"
        bundle.put(
            [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": path}], "linux", "namespaces"
        )
        bundle.drop("hostname")
        runtime.prefix = network.prefix
        container = runtime.running(moving(bundle, left="lan%d", right="lan%d"))
        assert {*links(container.pid)} >= {"lan0", "lan1", "lan2", "lan3"}
        container.delete("--force").ok()
        assert {*links(joined.pid)} >= {"lan0", "lan1", "lan2", "lan3"}, "nobody moves them back"


@KNOWING
def test_a_device_of_software_ends_with_the_network_of_its_container(
    runtime: Runtime, bundle: Bundle, network: Network
) -> None:
    """It is the kernel that decides, and it sends only those of metal back (network_namespaces(7))."""
    runtime.prefix = network.prefix
    container = runtime.running(moving(bundle, left="lan0"))
    container.delete("--force").ok()
    observe.eventually(lambda: "right" not in links(network.pid), "the other end goes with it")
    assert not {*links(network.pid)} & {"left", "lan0"}


def test_hooks_find_the_device_where_it_is_to_be(ocirun: Runtime, bundle: Bundle, network: Network) -> None:
    told = ocirun.file("told")
    look = f"nsenter --net=/proc/$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')/ns/net ip -j address > {told}"
    bundle.put([{"path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/usr/sbin:/usr/bin:/bin"]}],
               "hooks", "createRuntime")  # fmt: skip
    ocirun.prefix = network.prefix
    ocirun.create(moving(bundle, left="lan0"))
    found = [one["ifname"] for one in json.loads(Path(told).read_text())]
    assert "lan0" in found


def test_with_a_user_namespace_the_device_belongs_to_the_container(
    ocirun: Runtime, bundle: Bundle, network: Network
) -> None:
    bundle.items("linux", "namespaces").append({"type": "user"})
    for side in ("uidMappings", "gidMappings"):
        bundle.put([{"containerID": 0, "hostID": 100000, "size": 65536}], "linux", side)
    bundle.rootfs.parent.parent.chmod(0o755)
    ocirun.prefix = network.prefix
    container = ocirun.running(moving(bundle, left="lan0"))
    assert addresses(container.pid, "lan0") == KEPT
    assert "UP" in cast("list[str]", links(container.pid)["lan0"]["flags"])


def test_a_template_leaves_the_other_names_to_whom_they_are_given(
    ocirun: Runtime, bundle: Bundle, network: Network
) -> None:
    ocirun.prefix = network.prefix
    container = ocirun.running(moving(bundle, left="lan%d", right="lan0"))
    assert addresses(container.pid, "lan1") == KEPT
    assert "lan0" in links(container.pid)


# -- what cannot be moved


def unchanged(network: Network) -> bool:
    """Whether left is as the test has made it."""
    left = links(network.pid)["left"]
    return addresses(network.pid, "left") >= KEPT and "UP" in cast("list[str]", left["flags"])


def test_a_device_that_is_missing(ocirun: Runtime, bundle: Bundle, network: Network) -> None:
    ocirun.prefix = network.prefix
    ocirun.attempt(moving(bundle, left="lan0", absent="lan1")).refused(
        "there is no network device absent",
        "/linux/netDevices/absent]",
        "(`ip link` lists those of the network namespace that ocirun runs in)",
    )
    assert unchanged(network), "the one before it is back, as it was"


@KNOWING
def test_a_name_that_the_container_has_is_an_error(
    runtime: Runtime, bundle: Bundle, network: Network
) -> None:
    with Network() as joined:
        joined.pair("lan0", "other")
        bundle.put([{"type": "mount"}, {"type": "pid"},
                    {"type": "network", "path": f"/proc/{joined.pid}/ns/net"}],
                   "linux", "namespaces")  # fmt: skip
        bundle.drop("hostname")
        runtime.prefix = network.prefix
        failed = runtime.attempt(moving(bundle, left="lan0"))
        assert failed.code != 0
        if runtime.name == "ocirun":
            failed.refused(
                "the container has a network device lan0",
                "/linux/netDevices/left/name]",
                "(choose another name, or a template such as eth%d)",
            )
        assert unchanged(network)


@pytest.mark.parametrize("name", ["a" * 16, "with space", "with/slash", "two%d%d", "per%cent"])
def test_a_name_that_no_device_can_have(ocirun: Runtime, bundle: Bundle, name: str) -> None:
    ocirun.attempt(moving(bundle, left=name)).refused(
        "/linux/netDevices/left/name", "must be the name of a network device (at most 15 bytes, no space"
    )


def test_a_container_without_a_network_of_its_own(ocirun: Runtime, bundle: Bundle, network: Network) -> None:
    bundle.put([{"type": "mount"}, {"type": "pid"}], "linux", "namespaces").drop("hostname")
    ocirun.prefix = network.prefix
    ocirun.attempt(moving(bundle, left="lan0")).refused(
        "/linux/netDevices", 'needs a network namespace (add {"type": "network"} to linux.namespaces)'
    )
    path = f"/proc/{network.pid}/ns/net"
    bundle.items("linux", "namespaces").append({"type": "network", "path": path})
    ocirun.attempt(bundle).refused(
        "the container has the network namespace of the host",
        "/linux/netDevices]",
        "(leave the path of the network namespace out, or name another)",
    )
    assert unchanged(network)


def test_a_device_that_the_kernel_does_not_let_go(ocirun: Runtime, bundle: Bundle, network: Network) -> None:
    ip(network.pid, *"link add bridge type bridge".split())
    ocirun.prefix = network.prefix
    ocirun.attempt(moving(bundle, left="lan0", bridge="lan1")).refused(
        "move the network device bridge into the container: invalid argument (EINVAL)",
        "/linux/netDevices/bridge]",
        "a device of its kind stays where it is",
    )
    assert unchanged(network)


def test_who_has_no_right_is_told_before_anything_is_made(
    ocirun: Runtime, bundle: Bundle, network: Network
) -> None:
    ocirun.prefix = (*network.prefix, "setpriv", "--bounding-set", "-net_admin")
    ocirun.attempt(moving(bundle, left="lan0")).refused(
        "moving a network device takes CAP_NET_ADMIN in the network namespace of the host",
        "/linux/netDevices]",
        "run as root",
    )


def test_a_create_that_fails_later_gives_the_devices_back(
    ocirun: Runtime, bundle: Bundle, network: Network
) -> None:
    bundle.put([{"path": "/bin/false"}], "hooks", "createRuntime")
    ocirun.prefix = network.prefix
    ocirun.attempt(moving(bundle, left="lan%d", right="up0")).refused("/hooks/createRuntime/0")
    assert unchanged(network)
    assert "UP" not in cast("list[str]", links(network.pid)["right"]["flags"])


def test_a_create_that_is_killed_gives_the_devices_back(
    ocirun: Runtime, bundle: Bundle, network: Network
) -> None:
    """Its init ends by itself, and would take the namespace and the devices with it."""
    told = ocirun.file("told")
    hook: Json = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {told}; exec sleep 1000"]}
    bundle.put([hook], "hooks", "createRuntime")
    ocirun.prefix = network.prefix
    ident = new_id()
    path = str(moving(bundle, left="lan%d", right="up0").write().path)
    creating, _ = ocirun.popen("create", "--bundle", path, ident)
    observe.eventually(told.exists, "the hook runs")
    assert not {*links(network.pid)} & {"left", "right"}
    creating.kill()
    creating.wait()
    observe.eventually(lambda: unchanged_if_there(network), "they are back")
    assert "UP" not in cast("list[str]", links(network.pid)["right"]["flags"])
    ocirun.call("delete", "--force", ident).ok()
    assert unchanged(network)


def unchanged_if_there(network: Network) -> bool:
    return {"left", "right"} <= {*links(network.pid)} and unchanged(network)


def test_nobody_of_ours_is_left_with_the_devices(ocirun: Runtime, bundle: Bundle, network: Network) -> None:
    """The child that would bring them back has ended when create returns."""
    ocirun.prefix = network.prefix
    before = observe.descendants(os.getpid())
    container = ocirun.create(moving(bundle, left="lan0"))
    assert observe.descendants(os.getpid()) - before == {container.pid}
    container.start()
    assert addresses(container.pid, "lan0") == KEPT


def test_a_shim_moves_them_as_well(served: Serving) -> None:
    """In the network of whoever starts the shims, which is that of the tests: so under names of its own."""
    left, right = (f"ohn{os.getpid() % 100000}{side}" for side in "lr")
    made = subprocess.run(["ip", "link", "add", left, "type", "veth", "peer", "name", right], check=False)
    if made.returncode:
        pytest.skip("no veth can be made in this network")
    try:
        ip(os.getpid(), *f"address add 192.0.2.77/24 dev {left}".split())
        task = served.task()
        moving(task.bundle, **{left: "lan%d"}).write()
        pid = task.shim().create()
        assert addresses(pid, "lan0") == {"192.0.2.77/24"}
        task.start()
        assert task.end() == 137
        again = served.task()
        moving(again.bundle, **{left: "lan0", right: "lan1"}).write()
        code, told = again.shim().refused("Create", again.request())
        assert (code, f"there is no network device {left}" in told) == (2, True), told
    finally:
        subprocess.run(["ip", "link", "delete", right], check=False, capture_output=True)
