"""What the image of the guest holds; the image in the cache is named by a hash of all this."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.peers import Kit

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE = "trixie"

#: User-mode Linux of sid.  The suite's own, 6.12, panics when a process is killed in the middle of a fork.
UML = Kit("uml", "sid", ("user-mode-linux",), ("linux.uml",))

#: The kernel of the PC, and what unpacks it.
_KERNEL = "linux-image-cloud-amd64 zstd"
_SYSTEM = (
    "systemd-sysv libpam-systemd dbus dbus-user-session iproute2 procps kmod busybox-static strace apparmor"
)
#: What the engines need beside the runtimes, which are the peers' own and newer than the suite's.
_ENGINES = """containerd docker.io docker-cli podman uidmap slirp4netns passt fuse-overlayfs catatonit
    netavark aardvark-dns iptables nftables ca-certificates criu libcriu2"""
#: To compile the project and to run its tests.
_PROJECT = """gcc libc6-dev musl-tools linux-libc-dev python3 python3-dev python3-venv python3-hatchling
    libseccomp2 python3-jsonschema python3-prctl python3-psutil python3-pyroute2 python3-pytest
    python3-pytest-rerunfailures python3-pytest-timeout"""

PACKAGES = f"{_KERNEL} {_SYSTEM} {_ENGINES} {_PROJECT}".split()
#: From PyPI: what the suite has not, or older than our messages were generated for.
WHEELS = ("protobuf>=5.26.1,<8", "pyseccomp>=0.1.2", "jeepney>=0.8")
#: The version of the suite's Python, which the wheels must fit.
PYTHON = "3.13"

#: Units that find nothing to do here, and take 4 s for that in one machine and 20 s in the other.
MASKED = """docker.socket podman.socket systemd-networkd.socket systemd-journal-flush.service
    systemd-binfmt.service systemd-udev-trigger.service systemd-udevd.service systemd-udevd-kernel.socket
    systemd-udevd-control.socket systemd-udev-load-credentials.service systemd-random-seed.service
    systemd-modules-load.service kmod-static-nodes.service modprobe@.service
    systemd-tmpfiles-setup-dev-early.service""".split()

_GUEST = Path(__file__).parent / "guest"
#: Where the guest has which file: its mode, its text.
FILES = {
    "usr/lib/ocirun-vm/init": (0o755, (_GUEST / "init").read_text()),
    "usr/lib/ocirun-vm/run": (0o755, (_GUEST / "run").read_text()),
    "etc/systemd/system/ocirun-vm.service": (0o644, (_GUEST / "ocirun-vm.service").read_text()),
    "etc/hostname": (0o644, "guest\n"),
    "etc/hosts": (0o644, "127.0.0.1 localhost guest\n::1 localhost\n"),
}

#: Whoever is not root in the tests.
USER = "user"
#: The environment whose Python runs the project: its own packages are the project, the others the system's.
ENVIRONMENT = Path("/opt/ocirun")

_LAYOUT = 1  # raise it when image.py makes another image of the same recipe


def digest(kits: Sequence[Path]) -> str:
    """The name of the image with what lies in these directories: the runtimes, User-mode Linux."""
    whole = (_LAYOUT, SUITE, PACKAGES, WHEELS, PYTHON, MASKED, FILES, USER, str(ENVIRONMENT), *map(str, kits))
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:12]
