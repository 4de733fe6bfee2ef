"""Plans for the helper alone: the fewest steps around those that a test is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirun.plan import steps as verb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocirun.plan.model import Step

NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC, NEW_PID, NEW_NET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000,
)  # fmt: skip
ALL_NAMESPACES = NEW_NS | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
MS_REC, MS_PRIVATE, MS_SLAVE = 0x4000, 0x40000, 0x80000
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
S_IFCHR = 0o20000

#: BPF: r0 = 1 (or 0); exit.
ALLOW_ALL = bytes.fromhex("b7000000010000009500000000000000")
DENY_ALL = bytes.fromhex("b7000000000000009500000000000000")


class Place:
    """Where a test lets its container live."""

    def __init__(self, rootfs: Path, state: Path, cgroup: Path) -> None:
        self.rootfs = rootfs
        self.state = state
        self.cgroup = cgroup


def stage(place: Place, extra: Sequence[Step] = (), namespaces: int = ALL_NAMESPACES) -> list[Step]:
    """What stage opens and the clone."""
    return [
        verb.hide_process(pointer=""),
        verb.open_handshake(directory=str(place.state), gate="gate", proof="proof", pointer=""),
        verb.open_tree(
            path=str(place.rootfs), recursive=1, shared=0, nofollow=0, tree="root", pointer="/root/path"
        ),
        verb.open_device(path="/dev/null", kind=0o020000, major=1, minor=3, device="null", pointer=""),
        verb.open_cgroup(path=str(place.cgroup), cgroup="cgroup", pointer=""),
        *extra,
        verb.clone_init(namespaces=namespaces, cgroup="cgroup", sharing=0, pointer=""),
    ]


def root() -> list[Step]:
    """The root file system attached."""
    return [
        verb.set_propagation(flags=MS_REC | MS_SLAVE, pointer=""),
        verb.attach_root(root="root", set=0, clear=0, rset=0, rclear=0, propagation=(), pointer=""),
    ]


def mount(fstype: str, target: str, *options: str, attributes: int = 0, plain: bool = False) -> Step:
    """A new file system."""
    given = any(option.startswith("mode=") for option in options)
    return verb.mount(
        fstype=fstype, source=fstype, target=target, flags=0, options=options, set=attributes,
        propagation=(), plain=int(plain), keep=int(fstype == "tmpfs" and not given), pointer="",
    )  # fmt: skip


def attach(tree: str, target: str, *, attributes: int = 0, recursive: int = 0) -> Step:
    """A bind mount."""
    return verb.attach(
        tree=tree, target=target, link=0, set=attributes, clear=0, rset=recursive, rclear=0,
        propagation=[MS_REC | MS_PRIVATE], pointer="",
    )  # fmt: skip


def device(name: str, major: int, minor: int) -> Step:
    """A character device in /dev."""
    return verb.make_device(
        path=f"/dev/{name}", kind=S_IFCHR, major=major, minor=minor, mode=0o666, uid=0, gid=0, pointer=""
    )


def mounts() -> list[Step]:
    """The file systems of runc's default config."""
    guarded = NOSUID | NODEV | NOEXEC
    return [
        mount("proc", "/proc", plain=True),
        mount("tmpfs", "/dev", "mode=755", "size=65536k", attributes=NOSUID),
        mount(
            "devpts",
            "/dev/pts",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
            attributes=NOSUID | NOEXEC,
        ),
        mount("tmpfs", "/dev/shm", "mode=1777", "size=65536k", attributes=guarded),  # noqa: S108
        mount("mqueue", "/dev/mqueue", attributes=guarded),
        mount("sysfs", "/sys", attributes=guarded | RDONLY, plain=True),
        mount("cgroup2", "/sys/fs/cgroup", attributes=guarded | RDONLY),
    ]


def end(args: Sequence[str], env: Sequence[str] = ("PATH=/bin",), before: Sequence[Step] = ()) -> list[Step]:
    """From pivot_root to exec."""
    return [
        verb.pivot_root(stay=0, pointer=""),
        *before,
        verb.find_program(name=args[0], search="/bin", uid=0, gid=0, pointer="/process/args"),
        verb.close_descriptors(preserve=0, gate="gate", proof="proof", pointer=""),
        verb.await_start(gate="gate", proof="proof", pointer=""),
        verb.exec(args=args, env=env, pointer="/process/args"),
    ]


def small(place: Place, script: str, inside: Sequence[Step] = (), opened: Sequence[Step] = ()) -> list[Step]:
    """A container that runs ``script`` in busybox's shell, with the steps of a test ``inside`` its root."""
    return [*stage(place, opened), *root(), *inside, *end(["sh", "-c", script])]


def full(place: Place, script: str) -> list[Step]:
    """A plan with nearly every verb, as runc's default config would give it."""
    return [
        *stage(
            place,
            [
                verb.allow_devices(cgroup="cgroup", program=ALLOW_ALL, pointer=""),
                verb.open_tree(
                    path=str(place.rootfs / "etc/passwd"),
                    recursive=0,
                    shared=0,
                    nofollow=0,
                    tree="file",
                    pointer="",
                ),
                verb.open_tree(
                    path=str(place.state), recursive=1, shared=0, nofollow=0, tree="directory", pointer=""
                ),
            ],
        ),
        verb.join_keyring(name="_ses.helper-test", pointer=""),
        verb.set_link_up(name="lo", pointer=""),
        *root(),
        *mounts(),
        attach("file", "/etc/made/passwd", attributes=RDONLY),
        attach("directory", "/mnt/state", recursive=RDONLY),
        *[
            device(name, major, minor)
            for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("tty", 5, 0))
        ],
        verb.make_symlink(target="/proc/self/fd", path="/dev/fd", pointer=""),
        verb.make_symlink(target="pts/ptmx", path="/dev/ptmx", pointer=""),
        verb.make_directory(path="/srv/here", mode=0o755, pointer=""),
        *end(["sh", "-c", script], before=_identity()),
    ]


def _identity() -> list[Step]:
    return [
        verb.new_session(pointer=""),
        verb.set_readonly(path="/dev/shm", pointer=""),  # noqa: S108
        verb.set_root_readonly(pointer=""),
        verb.set_hostname(name="box", pointer=""),
        *[
            verb.readonly_path(path=path, below="", pointer="")
            for path in ("/proc/sys", "/proc/bus", "/nothing/here")
        ],
        *[
            verb.mask_path(path=path, below="", null="null", pointer="")
            for path in (
                "/proc/interrupts",
                "/proc/keys",
                "/proc/acpi",
                "/sys/firmware",
                "/proc/scsi",
                "/etc/passwd/x",
            )
        ],
        verb.forbid_new_privileges(pointer=""),
        verb.enter_cwd(path="/srv/here", pointer=""),
        verb.set_rlimit(resource=7, soft=512, hard=1024, pointer=""),
        verb.own_stdio(uid=1000, pointer=""),
        verb.drop_bounding(keep=1 << 5 | 1 << 10 | 1 << 29, pointer=""),
        verb.set_groups(groups=(5, 6), pointer=""),
        verb.set_ids(uid=1000, gid=1001, pointer=""),
        verb.set_capabilities(effective=1 << 10, permitted=1 << 5 | 1 << 10, inheritable=1 << 10, pointer=""),
        verb.raise_ambient(capabilities=1 << 5 | 1 << 10, pointer=""),
        verb.set_umask(mask=0o27, pointer=""),
        verb.find_home(uid=1000, pointer=""),
    ]


def entering(cgroup: str, args: Sequence[str], before: Sequence[Step] = (), pid: int = 1) -> list[Step]:
    """A process in a container that is there."""
    joined = ALL_NAMESPACES & ~NEW_CGROUP
    return [
        verb.hide_process(pointer=""),
        verb.open_init(pid=pid, start="", init="init", pointer=""),
        verb.open_cgroup(path=cgroup, cgroup="cgroup", pointer=""),
        verb.join_namespaces(init="init", namespaces=joined, pointer=""),
        verb.clone_init(namespaces=0, cgroup="cgroup", sharing=0, pointer=""),
        verb.join_cgroup_namespace(init="init", pointer=""),
        *before,
        verb.new_session(pointer=""),
        verb.enter_cwd(path="/", pointer=""),
        verb.close_descriptors(preserve=0, gate="", proof="", pointer=""),
        verb.find_program(name=args[0], search="/bin", uid=0, gid=0, pointer=""),
        verb.exec(args=args, env=["PATH=/bin"], pointer=""),
    ]
