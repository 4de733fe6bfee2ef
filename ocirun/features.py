"""What this version can do, whatever the host (features.md, features-linux.md): told by the tables that the
planner itself goes by, so that nothing is claimed that it would refuse."""

from __future__ import annotations

from ocirun import SPEC_VERSION
from ocirun.config.rules import HOOKS
from ocirun.planner import scheduling
from ocirun.planner.mount_options import known_words
from ocirun.planner.namespaces import FLAGS
from ocirun.planner.scope import REFUSED
from ocirun.planner.security import CAPABILITIES
from ocirun.seccomp import tables as seccomp

OLDEST_SPEC = "1.0.0"


#: Members that were written from the specification and are tested in a simulated tree alone, for want of the
#: devices.
SIMULATED = ("linux.intelRdt", "linux.resources.rdma")
#: Annotations that change what is made of a config (features.md); with a dot at its end, all that begin so.
OBEYED_ANNOTATIONS = ("org.systemd.property.", "run.oci.", "org.criu.config")


def features() -> dict[str, object]:
    """The Features structure; what is not built is there as false, not left out: then nobody has to guess."""
    return {
        "ociVersionMin": OLDEST_SPEC,
        "ociVersionMax": SPEC_VERSION,
        "hooks": [*HOOKS],
        "mountOptions": known_words(),
        "linux": _linux(),
        "annotations": {
            "ocirun.simulated": " ".join(SIMULATED),
            #: as runc and crun tell it: engines look for this one
            "org.opencontainers.runc.checkpoint.enabled": "true",
        },
        "potentiallyUnsafeConfigAnnotations": [*OBEYED_ANNOTATIONS],
    }


def _linux() -> dict[str, object]:
    return {
        "namespaces": sorted(FLAGS),
        "capabilities": [*CAPABILITIES],
        "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
        "seccomp": seccomp.features(),
        "apparmor": {"enabled": _built("/process", "apparmorProfile")},
        "selinux": {"enabled": _built("/process", "selinuxLabel")},
        "memoryPolicy": {"modes": [*scheduling.MEMORY_MODES], "flags": [*scheduling.MEMORY_FLAGS]},
        "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
        "mountExtensions": {"idmap": {"enabled": "idmap" in known_words()}},
        "netDevices": {"enabled": True},
    }


def _built(place: str, member: str) -> bool:
    return member not in REFUSED.get(place, {})
