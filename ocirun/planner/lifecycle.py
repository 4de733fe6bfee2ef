"""What every container has: the hidden helper, the handshake, closed descriptors, the wait for ``start``."""

from __future__ import annotations

from ocirun.plan import steps
from ocirun.plan.model import LIFECYCLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft


def hide() -> Sequence[Step]:
    """First of all: nobody inside may look into the helper (CVE-2016-9962)."""
    return (steps.hide_process(pointer="", why=LIFECYCLE),)


def handshake(draft: Draft) -> Sequence[Step]:
    """The FIFOs through which ``start``, another process, speaks with init."""
    return (
        steps.open_handshake(
            directory=draft.options.state_directory, gate="gate", proof="proof", pointer="", why=LIFECYCLE
        ),
    )


#: A bit for each CPU that a kernel can have (CONFIG_NR_CPUS).
_EVERY_CPU = b"\xff" * 1024


def free_cpus() -> Sequence[Step]:
    """The CPUs that the caller was bound to are none of the container's: its cgroup says which it has."""
    return (steps.set_affinity(cpus=_EVERY_CPU, pointer="", why=LIFECYCLE),)


def close_descriptors(draft: Draft, *, waits: bool) -> Sequence[Step]:
    """Nothing of the host stays open but 0, 1, 2 and what --preserve-fds names (runtime-linux.md), and until
    the program runs the handshake of one that ``waits`` for a start."""
    gate, proof = ("gate", "proof") if waits else ("", "")
    preserve = draft.options.preserve_fds
    return (steps.close_descriptors(preserve=preserve, gate=gate, proof=proof, pointer="", why=LIFECYCLE),)


def await_start() -> Sequence[Step]:
    """The container is created; from here on ``start`` decides."""
    return (steps.await_start(gate="gate", proof="proof", pointer="", why=LIFECYCLE),)
