"""What criu is asked: flags, config and what was found out about the container, as fields of criu_opts."""

from __future__ import annotations

from ocirun.criu.messages import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ocirun_spec.types import Config

    from ocirun.criu.messages import Field

#: What criu does with cgroups, by the words of --manage-cgroups-mode (enum criu_cg_mode).
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
#: How it stops the network of a container while connections are open (enum criu_network_lock_method).
NETWORK_LOCKS = {"iptables": 1, "nftables": 2}
#: The kinds of requests and of answers (enum criu_req_type).
DUMP, RESTORE, PRE_DUMP, NOTIFY = 1, 2, 4, 6
#: The annotation that names a configuration file of criu, "" for none, and the file without it.
ANNOTATION, CONFIGURATION = "org.criu.config", "/etc/criu/ocirun.conf"
#: All that could help to find out why it failed.
_LOG_LEVEL = 4
_CLONE_NEWNET = 0x40000000
#: Namespaces that a container has joined and that criu leaves out, because it is told where they are: our
#: type of them, criu's, and the name under which they are told.
EXTERNAL = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
#: Those that it joins by path.
_JOINED = {"ipc": "ipc", "uts": "uts", "mount": "mnt", "user": "user", "time": "time"}


class Wanted:
    """The flags that both commands have; each is criu's own, and the defaults are its.

    ``images`` and ``work`` are absolute paths of directories: the images, and what it writes beside them,
    its log first; "" for the same one.  ``cgroups`` is a word of CGROUP_MODES, ``network_lock`` one of
    NETWORK_LOCKS or "".
    """

    __slots__ = (
        "auto_dedup", "cgroups", "ext_unix_sk", "file_locks", "images", "network_lock", "shell_job",
        "tcp_established", "work",
    )  # fmt: skip

    def __init__(
        self,
        images: str,
        work: str = "",
        *,
        tcp_established: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        file_locks: bool = False,
        auto_dedup: bool = False,
        cgroups: str = "soft",
        network_lock: str = "",
    ) -> None:
        self.images = images
        self.work = work or images
        self.tcp_established = tcp_established
        self.ext_unix_sk = ext_unix_sk
        self.shell_job = shell_job
        self.file_locks = file_locks
        self.auto_dedup = auto_dedup
        self.cgroups = cgroups
        self.network_lock = network_lock


class Dump(Wanted):
    """What checkpoint has besides.

    ``parent`` is the directory of the checkpoint before, relative to the images; ``page_server`` the address
    and the port of a criu that takes the pages, ("", 0) for none.
    """

    __slots__ = (
        "leave_running", "link_remap", "page_server", "parent", "pre_dump", "tcp_skip_in_flight",
    )  # fmt: skip

    def __init__(self, images: str, work: str = "") -> None:
        super().__init__(images, work)
        self.parent = ""
        self.leave_running = False
        self.pre_dump = False
        self.tcp_skip_in_flight = False
        self.link_remap = False
        self.page_server: tuple[str, int] = ("", 0)


class Restore(Wanted):
    """What restore has besides: ``lsm_profile`` as TYPE:NAME, ``lsm_mount_context`` of SELinux."""

    __slots__ = ("lsm_mount_context", "lsm_profile", "tcp_close")

    def __init__(self, images: str, work: str = "") -> None:
        super().__init__(images, work)
        self.tcp_close = False
        self.lsm_profile = ""
        self.lsm_mount_context = ""


def common(wanted: Wanted, config: Config, images: int, work: int, log: str) -> list[Field]:
    """The fields that both requests have; ``images`` and ``work`` are open directories of ours, ``log`` is
    the name of the file in the second.

    Networks are left empty, as with runc: what is in one is the business of who made it.
    """
    fields: list[Field] = [
        (1, images),
        (4, wanted.ext_unix_sk),
        (5, wanted.tcp_established),
        (7, wanted.shell_job),
        (8, wanted.file_locks),
        (9, _LOG_LEVEL),
        (10, log),
        (12, True),  # notify_scripts: it tells how far it is, and waits for us
        (16, wanted.auto_dedup),
        (17, work),
        (24, True),  # manage_cgroups, of which the mode says more
        (34, CGROUP_MODES[wanted.cgroups]),
        (38, _CLONE_NEWNET),  # empty_ns
        (50, True),  # orphan_pts_master: the masters of its terminals are outside
    ]
    if configuration := config.get("annotations", {}).get(ANNOTATION, CONFIGURATION):
        fields.append((51, configuration))
    if wanted.network_lock:
        fields.append((64, NETWORK_LOCKS[wanted.network_lock]))
    return fields


def dump(wanted: Dump, pid: int, rootfs: str, cgroup: str, mounts: Iterable[tuple[str, str]]) -> list[Field]:
    """The fields of a checkpoint of init ``pid`` and those below it, who are stopped by the freezer of their
    ``cgroup`` ("" for none); ``mounts`` are places and names (ocirun.criu.mounts)."""
    fields: list[Field] = [
        (2, pid),
        (3, wanted.leave_running),
        (13, rootfs),
        (18, wanted.link_remap),
        (46, wanted.tcp_skip_in_flight),
    ]
    if cgroup:
        fields.append((44, cgroup))
    if wanted.parent:
        fields.append((14, wanted.parent))
    if wanted.parent or wanted.pre_dump:
        fields.append((15, True))  # track_mem
    if wanted.page_server[1]:
        fields.append((11, encode([(1, wanted.page_server[0]), (2, wanted.page_server[1])])))
    # a name without a place is one of ours to say at the restore
    return [*fields, *(_pair(23, place, name) for place, name in mounts)]


def left_out(config: Config, inodes: dict[str, int]) -> list[Field]:
    """The namespaces of a checkpoint that a path of ``config`` names: those of criu's types in ``inodes``
    are where init is."""
    found = (EXTERNAL[kind] for kind, _ in _joined(config) if kind in EXTERNAL)
    return [(37, f"{name}[{inodes[name]}]:{key}") for name, key in found]


def _joined(config: Config) -> list[tuple[str, str]]:
    """The namespaces that a path names: type and path."""
    listed = config.get("linux", {}).get("namespaces", ())
    return [(one["type"], path) for one in listed if (path := one.get("path"))]


def restore(
    wanted: Restore,
    root: str,
    cgroups: Iterable[tuple[str, str]],
    mounts: Iterable[tuple[str, str]],
    inherited: Iterable[tuple[str, int]],
) -> list[Field]:
    """The fields of a restore below the mount point ``root``: ``cgroups`` are controllers and where they are
    to be, ``mounts`` names and sources, ``inherited`` names and the descriptors of criu that they are."""
    fields: list[Field] = [
        (6, True),  # evasive_devices: devices by any path that leads to them
        (13, root),
        (26, True),  # rst_sibling: what it restores is a child of ours
        (52, wanted.tcp_close),
    ]
    if wanted.lsm_profile:
        fields.append((53, wanted.lsm_profile))
    if wanted.lsm_mount_context:
        fields.append((63, wanted.lsm_mount_context))
    return [
        *fields,
        *(_pair(23, name, source) for name, source in mounts),
        *(_pair(25, controller, path) for controller, path in cgroups),
        *((27, encode([(1, name), (2, fd)])) for name, fd in inherited),
    ]


def external_paths(config: Config) -> list[tuple[str, str]]:
    """Paths of the namespaces that criu takes open from us, each with its name."""
    return [(path, EXTERNAL[kind][1]) for kind, path in _joined(config) if kind in EXTERNAL]


def joined(config: Config) -> list[Field]:
    """The namespaces that criu joins by their paths."""
    return [_pair(39, _JOINED[kind], path) for kind, path in _joined(config) if kind in _JOINED]


def _pair(field: int, first: str, second: str) -> Field:
    return field, encode([(1, first), (2, second)])


def request(kind: int, fields: Sequence[Field]) -> bytes:
    """A request of that ``kind`` with these fields."""
    return encode([(1, kind), (2, encode(fields))])


def acknowledgement() -> bytes:
    """What criu waits for after each of its notifications."""
    return encode([(1, NOTIFY), (3, True)])
