"""What a client packs into the Any fields and lists of its requests, as what the lifecycle takes."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from ocirun import config
from ocirun.errors import ConfigError
from ocirun.jsontext import dumps
from ocirun.planner.rootfs import RootMount
from ocirun_shim import log
from ocirun_shim.answers import Refused
from ocirun_shim.messages import runc_options_pb2, runtime_options_pb2
from ocirun_shim.records import write_record
from ocirun_shim.ttrpc import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from google.protobuf.any_pb2 import Any
    from google.protobuf.message import Message
    from ocirun_spec.types import Process

    from ocirun_shim.messages import types_pb2

    M = TypeVar("M", bound=Message)

#: The file in the bundle that says where the state is, for `delete`, when it is not the usual place.
RECORD = "ocirun.json"


class Options:
    """The options of a create: ``root`` is "" for the usual place of the state; ``owner`` is the user and the
    group that the pipes of the container belong to, -1 for ours; ``pivot``, ``new_keyring`` and ``systemd``
    are what the flags of `ocirun create` say; ``criu_work`` is where criu writes its log, "" for the usual
    place."""

    __slots__ = ("criu_work", "new_keyring", "owner", "pivot", "root", "systemd")

    def __init__(
        self,
        root: str = "",
        owner: tuple[int, int] = (-1, -1),
        *,
        pivot: bool = True,
        new_keyring: bool = True,
        systemd: bool = False,
        criu_work: str = "",
    ) -> None:
        self.root = root
        self.owner = owner
        self.pivot = pivot
        self.new_keyring = new_keyring
        self.systemd = systemd
        self.criu_work = criu_work


def read(packed: Any) -> Options:
    """The options in ``packed``, an Any; of a type that is not known nothing is taken, with a warning.

    Raises Refused for one that cannot be decoded, or that asks for what is not built.
    """
    name = packed.type_url.rpartition("/")[2]
    if name == "containerd.runc.v1.Options":
        return _runc_options(packed.value)
    if name == "runtimeoptions.v1.Options":
        return _toml_options(decode(runtime_options_pb2.Options, packed.value).config_body)
    if name:
        log.warning(f"options of the type {name} are not known, and left out")
    return Options()


def _runc_options(value: bytes) -> Options:
    return _options(decode(runc_options_pb2.Options, value))


#: The names of what we take of those options in the configs of containerd and of dockerd.
_IN_TOML = {
    "NoPivotRoot": "no_pivot_root", "NoNewKeyring": "no_new_keyring", "SystemdCgroup": "systemd_cgroup",
    "Root": "root", "IoUid": "io_uid", "IoGid": "io_gid", "CriuWorkPath": "criu_work_path",
}  # fmt: skip


def _toml_options(body: bytes) -> Options:
    """The table ``options`` of a runtime whose type is not that of runc, as containerd hands it on: TOML."""
    if not body:
        return Options()
    import tomllib

    try:
        told = tomllib.loads(body.decode())
        taken = {_IN_TOML[name]: value for name, value in told.items() if name in _IN_TOML}
        return _options(runc_options_pb2.Options(**taken))
    except (ValueError, TypeError) as error:
        raise Refused(codes.INVALID_ARGUMENT, f"the options cannot be read: {error}") from None


def _options(asked: runc_options_pb2.Options) -> Options:
    for name, path in (("root", asked.root), ("criu_work_path", asked.criu_work_path)):
        if path:  # `delete` runs elsewhere, and has to find it again
            absolute(path, f"the options name the {name}")
    owner = (asked.io_uid or -1, asked.io_gid or -1)
    return Options(
        asked.root, owner, pivot=not asked.no_pivot_root, new_keyring=not asked.no_new_keyring,
        systemd=asked.systemd_cgroup, criu_work=asked.criu_work_path,
    )  # fmt: skip


def absolute(path: str, telling: str) -> str:
    """``path``, which must be an absolute one; raises Refused, ``telling`` what it was to be."""
    if not path.startswith("/"):
        raise Refused(codes.INVALID_ARGUMENT, f"{telling} {path!r}: give an absolute path")
    if "\0" in path:
        raise Refused(codes.INVALID_ARGUMENT, f"{telling} {path!r}: no path has a null byte")
    return path


def decode(kind: type[M], value: bytes) -> M:
    """A message of that ``kind``; raises Refused."""
    try:
        return kind.FromString(value)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise Refused(codes.INVALID_ARGUMENT, f"the options are no {name}: {error}") from None


def record(bundle: str, root: str) -> None:
    """Notes in the bundle where the state of its container is."""
    write_record(bundle, RECORD, dumps({"root": root}))


def root_mounts(mounts: Iterable[types_pb2.Mount]) -> list[RootMount]:
    """The mounts that make the root file system, in their order."""
    return [RootMount(one.type, one.source, one.target, tuple(one.options)) for one in mounts]


def resources(packed: Any) -> dict[str, object]:
    """The OCI Resources, JSON, in ``packed``: an object, whose members the update judges; raises Refused."""
    try:
        return {**config.read_resources(packed.value, "resources")}
    except ConfigError as error:
        raise Refused(codes.INVALID_ARGUMENT, str(error)) from None


def process(packed: Any, *, terminal: bool) -> Process:
    """The OCI Process, JSON, in ``packed``; ``terminal`` overrules its member of that name.

    Raises Refused with every fault that it has.
    """
    try:
        document = config.read(packed.value, "process", config.PROCESS)
    except ConfigError as error:
        raise Refused(codes.INVALID_ARGUMENT, str(error)) from None
    spec = document.config.get("process")
    assert spec is not None
    spec["terminal"] = terminal
    return spec
