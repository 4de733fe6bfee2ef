"""Namespaces by path that belong to user namespaces: the joined one, another, or that of the host.

The kernel lets somebody join who has CAP_SYS_ADMIN both where he is and in the user namespace that owns what
he joins (setns(2)).  Root of the host has it everywhere until he enters a user namespace, so that comes last.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.host import observe
from tests.host.execs import execute
from tests.host.users import UID, as_user, of_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Runtime

FIRST = 100000


class Holder:
    """A process that was started by unshare(1) with these flags, whose ids are mapped where it has others."""

    def __init__(self, *flags: str, prefix: tuple[str, ...] = ()) -> None:
        command = [*prefix, "unshare", *flags, "sh", "-c", "echo; exec sleep 1000"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.read(1)
        self.pid = self._process.pid

    def mapped(self, first: int = FIRST) -> Holder:
        """With the mappings written by root of the host, so that groups can be set."""
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{self.pid}/{name}").write_text(f"0 {first} 65536")
        return self

    def path(self, file: str) -> str:
        """The path of one of its namespaces."""
        return f"/proc/{self.pid}/ns/{file}"

    def end(self) -> None:
        """Ends it."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(autouse=True)
def holders() -> Iterator[Callable[..., Holder]]:
    """Makes holders, which outlive the containers."""
    made: list[Holder] = []

    def make(*flags: str, prefix: tuple[str, ...] = ()) -> Holder:
        made.append(Holder(*flags, prefix=prefix))
        return made[-1]

    yield make
    for holder in made:
        holder.end()


def join(bundle: Bundle, kind: str, path: str) -> Bundle:
    """The namespace of this kind is that at ``path``."""
    kept = [
        one for one in bundle.items("linux", "namespaces") if cast("dict[str, Json]", one)["type"] != kind
    ]
    return bundle.put([*kept, {"type": kind, "path": path}], "linux", "namespaces")


def joining(bundle: Bundle, **paths: str) -> Bundle:
    """The default bundle, whose root file system belongs to the mapped root, with these for its own."""
    bundle.mapped(FIRST, 65536)
    for kind, path in paths.items():
        join(bundle, kind, path)
    for place in ("/sys/fs/cgroup", "/sys"):  # whose network is not that of its mounter
        bundle.without_mount(place)
    if "user" in paths:
        bundle.drop("linux", "uidMappings").drop("linux", "gidMappings")
    return bundle.sleeping()


@pytest.mark.parametrize("whose", ["its own", "of another", "of the host"])
def test_a_network_is_joined_whoever_owns_it(
    runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder], whose: str
) -> None:
    users = holders("--user", "--net", "--ipc").mapped()
    network = {
        "its own": lambda: users,
        "of another": lambda: holders("--user", "--net").mapped(300000),
        "of the host": lambda: holders("--net"),
    }[whose]()
    container = runtime.running(joining(bundle, user=users.path("user"), network=network.path("net")))
    for pid, kind in ((users.pid, "user"), (network.pid, "net")):
        assert observe.namespace(container.pid, kind) == observe.namespace(pid, kind)
    told = execute(container, "sh", "-c", "id -u; readlink /proc/self/ns/net").ok().stdout.split()
    assert told == ["0", observe.namespace(network.pid, "net")]


@pytest.mark.parametrize("whose", ["of another", "of the host"])
def test_the_sysfs_of_a_network_that_belongs_to_others_is_the_hosts(
    runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder], whose: str
) -> None:
    """The kernel makes one only for who owns it."""
    users = holders("--user").mapped()
    network = holders("--user", "--net").mapped(300000) if whose == "of another" else holders("--net")
    joining(bundle, user=users.path("user"), network=network.path("net"))
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    mount = observe.mount_at(runtime.running(bundle).pid, "/sys")
    assert (mount.kind, "ro" in mount.options) == ("sysfs", True)


def test_the_sysfs_of_a_network_that_is_joined_with_its_owner_is_its_own(
    runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder]
) -> None:
    holder = holders("--user", "--net").mapped()
    joining(bundle, user=holder.path("user"), network=holder.path("net"))
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    container = runtime.running(bundle)
    names = {path.name for path in observe.inside(container.pid, "/sys/class/net").iterdir()}
    assert names == {"lo"}


@pytest.mark.parametrize("whose", ["of another", "of the host"])
def test_a_new_user_namespace_goes_with_a_network_that_exists(
    runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder], whose: str
) -> None:
    holder = holders("--user", "--net").mapped(300000) if whose == "of another" else holders("--net")
    container = runtime.running(joining(bundle, network=holder.path("net")))
    assert observe.namespace(container.pid, "net") == observe.namespace(holder.pid, "net")
    assert observe.namespace(container.pid, "user") not in {
        observe.namespace(pid, "user") for pid in ("self", holder.pid)
    }


def test_without_a_user_namespace_one_of_another_is_joined(
    runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder]
) -> None:
    holder = holders("--user", "--net", "--uts").mapped()
    join(join(bundle.drop("hostname"), "network", holder.path("net")), "uts", holder.path("uts"))
    container = runtime.running(bundle.sleeping())
    for kind in ("net", "uts"):
        assert observe.namespace(container.pid, kind) == observe.namespace(holder.pid, kind)
    assert observe.namespace(container.pid, "user") == observe.namespace("self", "user")


def test_one_in_which_groups_are_denied_is_joined_without_those_of_root(
    runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder]
) -> None:
    """As `unshare -U -r` makes it: nobody may call setgroups(2) in there any more."""
    holder = holders("--user", "--map-root-user", "--net")
    join(join(bundle, "user", holder.path("user")), "network", holder.path("net"))
    bundle.without_mount("/dev/pts")  # whose group has no mapping
    runtime.prefix = ("setpriv", "--groups", "4,27", "--")
    container = runtime.running(bundle.sleeping())
    assert observe.namespace(container.pid, "user") == observe.namespace(holder.pid, "user")
    assert observe.status(container.pid)["Groups"].split() == []
    assert execute(container, "grep", "Groups", "/proc/self/status").ok().stdout.split() == ["Groups:"]


# -- an ordinary user, who has no right to anything but in the user namespaces that he owns


def holder_of_user(holders: Callable[..., Holder], *flags: str, uid: int = UID) -> Holder:
    """A holder of the user's, who maps himself to root; so setgroups(2) is denied in it."""
    prefix = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")
    return holders("--user", "--map-root-user", *flags, prefix=prefix)


def of_user_joining(bundle: Bundle, **paths: str) -> Bundle:
    """The bundle of an ordinary user with these namespaces."""
    of_user(bundle).drop("linux", "uidMappings").drop("linux", "gidMappings")
    for kind, path in paths.items():
        join(bundle, kind, path)
    return bundle.sleeping()


def test_a_user_joins_what_he_owns(runtime: Runtime, bundle: Bundle, holders: Callable[..., Holder]) -> None:
    holder = holder_of_user(holders, "--net", "--ipc", "--uts")
    paths = {kind: holder.path(file) for kind, file in (("user", "user"), ("network", "net"), ("ipc", "ipc"))}
    bundle.without_mount("/dev/mqueue")
    container = as_user(runtime).running(of_user_joining(bundle, **paths))
    for file in ("user", "net", "ipc"):
        assert observe.namespace(container.pid, file) == observe.namespace(holder.pid, file)
    assert observe.namespace(container.pid, "uts") != observe.namespace(holder.pid, "uts")
    assert observe.status(container.pid)["Uid"].split() == [str(UID)] * 4
    told = execute(container, "sh", "-c", "id -u; readlink /proc/self/ns/user").ok().stdout.split()
    assert told == ["0", observe.namespace(holder.pid, "user")]


def test_a_user_has_no_groups_where_they_can_be_set(
    ocirun: Runtime, bundle: Bundle, holders: Callable[..., Holder]
) -> None:
    """As in the namespace of Podman, whose groups newgidmap has mapped."""
    prefix = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--")
    holder = holders("--user", prefix=prefix)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{holder.pid}/{name}").write_text(f"0 {UID} 1\n1 {FIRST} 1000")
    container_of_user = as_user(ocirun)
    container_of_user.prefix = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--groups", "4,27", "--")
    container = container_of_user.running(of_user_joining(bundle, user=holder.path("user")))
    assert observe.status(container.pid)["Groups"].split() == []


def test_a_user_does_not_join_what_is_not_his(
    ocirun: Runtime, bundle: Bundle, holders: Callable[..., Holder]
) -> None:
    users = as_user(ocirun)
    users.attempt(of_user_joining(bundle, user=holders("--user").mapped().path("user"))).refused(
        "/linux/namespaces/5/path", "EACCES", "(the process in it is of another user: run as that user)"
    )
    own = holder_of_user(holders)
    network = holder_of_user(holders, "--net")
    join(join(bundle, "user", own.path("user")), "network", network.path("net"))
    users.attempt(bundle).refused(
        "/linux/namespaces/6/path", "EACCES", "or of a user namespace that this one does not own)"
    )


def test_a_user_namespace_that_is_gone(ocirun: Runtime, bundle: Bundle) -> None:
    as_user(ocirun).attempt(of_user_joining(bundle, user="/proc/self/ns/absent")).refused(
        "/linux/namespaces/5/path", "ENOENT", "(there is no such namespace: leave the path out for a new one)"
    )
