"""What a client asks of checkpoints, as what the lifecycle takes.  Loaded when the first one comes.

A container that is created from a checkpoint is restored by its start, as with runc's shim: until then it has
no process.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ocirun.criu import service
from ocirun.criu.requests import CGROUP_MODES, Dump, Restore
from ocirun.errors import HostError
from ocirun.lifecycle.checkpoint import LOG, checkpoint
from ocirun.lifecycle.restore import check
from ocirun_shim import log
from ocirun_shim.answers import Refused, refusal
from ocirun_shim.messages.runc_options_pb2 import CheckpointOptions
from ocirun_shim.options import absolute, decode
from ocirun_shim.ttrpc import codes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any

    from ocirun.errors import Fault
    from ocirun.lifecycle.create import CreateOptions
    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task
    from ocirun_shim.messages import task_pb2 as pb
    from ocirun_shim.options import Options

#: Below the bundle: where containerd keeps what outlives it, criu's files in there, and the log of a
#: checkpoint that has failed.  The names are those of runc's shim.
_WORK, _OF_CRIU, _FAILED = "work", "criu-work", "criu-dump.log"
#: The only namespace that criu can leave empty, as it does with every network.
_EMPTY = "network"


def to_dump(request: pb.CheckpointTaskRequest, bundle: str) -> Dump:
    """What a Checkpoint asks for; raises Refused for what cannot be done."""
    asked = _options(request.options)
    images = request.path or asked.image_path
    if not images:
        raise Refused(codes.INVALID_ARGUMENT, "a checkpoint needs a path for its images")
    absolute(images, "the images were to go to")
    work = asked.work_path or f"{bundle}/{_WORK}/{_OF_CRIU}"
    wanted = Dump(images, absolute(work, "criu was to work in"))
    wanted.leave_running = not asked.exit
    wanted.tcp_established = asked.open_tcp
    wanted.ext_unix_sk = asked.external_unix_sockets
    wanted.shell_job = asked.terminal
    wanted.file_locks = asked.file_locks
    wanted.parent = asked.parent_path
    wanted.cgroups = _mode(asked.cgroups_mode) or wanted.cgroups
    for name in asked.empty_namespaces:
        if name != _EMPTY:
            raise Refused(codes.INVALID_ARGUMENT, f"empty_namespaces: {name!r}: criu leaves {_EMPTY} empty")
    return wanted


def _find_criu() -> None:
    try:
        service.find()
    except HostError as error:
        raise Refused(codes.FAILED_PRECONDITION, str(error)) from None


def _options(packed: Any) -> CheckpointOptions:
    """The options in ``packed``, an Any; none where it is empty, and of a type that is not known."""
    name = packed.type_url.rpartition("/")[2]
    if name == CheckpointOptions.DESCRIPTOR.full_name:
        return decode(CheckpointOptions, packed.value)
    if name:
        log.warning(f"options of the type {name} are not known, and left out")
    return CheckpointOptions()


def _mode(word: str) -> str:
    if word and word not in CGROUP_MODES:
        known = ", ".join(CGROUP_MODES)
        raise Refused(codes.INVALID_ARGUMENT, f"cgroups_mode: {word!r} is none of {known}")
    return word


def dump(store: Store, container: str, bundle: str, wanted: Dump) -> Task[None]:
    """Takes a checkpoint; a container that has ended by it stays until somebody deletes it.

    Raises as ``checkpoint`` does, and Refused where there is no criu; criu's log is in the bundle then.  What
    it wrote beside is gone, unless the client has named a place for it.
    """

    def warn(fault: Fault) -> None:
        log.warning(f"{container}: {fault.render('config.json')}")

    _find_criu()
    try:
        yield from checkpoint(store, container, wanted, warn, keep=True)
    except HostError as error:
        written, kept = f"{wanted.work}/{LOG}", f"{bundle}/{_FAILED}"
        if error.path == written and _keep(written, kept):
            error.path, error.hint = kept, error.hint.replace(written, kept)
        raise
    finally:
        if wanted.work == f"{bundle}/{_WORK}/{_OF_CRIU}":
            _remove(wanted.work)


def _keep(written: str, kept: str) -> bool:
    """Copies the log of criu, which may be on another file system."""
    try:
        with open(written, "rb") as source, open(kept, "wb") as target:
            target.write(source.read())
    except OSError as error:
        log.debug(f"the log of criu is not kept: {error}")
        return False
    return True


def _remove(directory: str) -> None:
    with suppress(OSError):  # it was never made, or somebody has put more into it
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)


def to_restore(request: pb.CreateTaskRequest, options: CreateOptions, asked: Options) -> Restore:
    """What a Create with a checkpoint asks for; raises Refused for what is known to fail already.

    Nobody tells at a restore what the checkpoint was allowed to have in it, so all of that may come back.
    """
    images = absolute(request.checkpoint, "the container was to be restored from")
    _find_criu()
    wanted = Restore(images, asked.criu_work or f"{request.bundle}/{_WORK}")
    wanted.tcp_established = wanted.ext_unix_sk = wanted.file_locks = True
    try:
        check(options, wanted)
    except HostError as error:
        raise Refused(codes.INVALID_ARGUMENT, f"OCI runtime restore failed: {error}") from None
    except Exception as error:
        raise refusal(error, "OCI runtime create failed") from error
    _check_parent(images, request.parent_checkpoint)
    return wanted


def _check_parent(images: str, parent: str) -> None:
    """Raises Refused unless the earlier checkpoint, of which the images know where it is, is that ``parent``:
    criu finds it by their link, and by nothing else."""
    if not parent:
        return
    absolute(parent, "the checkpoint before was to be")
    with suppress(OSError):
        if os.path.samefile(f"{images}/parent", parent):
            return
    raise Refused(codes.INVALID_ARGUMENT, f"the checkpoint before {images} is not {parent}")
