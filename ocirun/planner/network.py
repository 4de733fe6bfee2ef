"""Network devices of the host that become the container's (config-linux.md, Network devices)."""

from __future__ import annotations

from ocirun.plan import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft

HERE = "/linux/netDevices"
_CAP_NET_ADMIN = 1 << 12


def move(draft: Draft) -> Sequence[Step]:
    """All in one step, in the order of the config: the host does it, while init waits in its network."""
    if draft.host.euid != 0 or not draft.host.capabilities & _CAP_NET_ADMIN:
        draft.lack(
            HERE,
            "moving a network device takes CAP_NET_ADMIN in the network namespace of the host",
            "run as root, or leave it to the engine: slirp4netns and pasta need no device of the host",
        )
    names: list[str] = []
    for name, device in draft.linux.get("netDevices", {}).items():
        names += [name, device.get("name", "") or name]
    return (steps.move_net_devices(names=names, pointer=HERE),)
