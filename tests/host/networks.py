"""Network namespaces of a test, with devices in pairs, which a runtime finds for those of its host."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from typing import Self

    from tests.host.bundles import Json


def ip(where: int | str, *words: str) -> list[dict[str, Json]]:
    """``ip WORDS`` in the network namespace of a process, or in that of a path: what it prints as JSON."""
    path = f"/proc/{where}/ns/net" if isinstance(where, int) else where
    command = ["nsenter", f"--net={path}", "--", "ip", "-json", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return cast("list[dict[str, Json]]", json.loads(done.stdout or "[]"))


def links(where: int | str) -> dict[str, dict[str, Json]]:
    """The devices by name."""
    return {str(one["ifname"]): one for one in ip(where, "-details", "link")}


def addresses(where: int | str, device: str) -> set[str]:
    """The addresses of a device that are good everywhere, as ADDRESS/PREFIX, a peer's behind >."""
    found: set[str] = set()
    for link in ip(where, "address", "show", "dev", device):
        for one in cast("list[dict[str, Json]]", link["addr_info"]):
            if one["scope"] == "global":
                peer = f">{one['address']}" if "address" in one else ""
                found.add(f"{one['local']}{peer}/{one['prefixlen']}")
    return found


class Network:
    """A network namespace that lasts as long as the context; ``prefix`` runs a command in it."""

    def __init__(self) -> None:
        if not shutil.which("ip"):
            pytest.skip("ip is missing: apt-get install iproute2")
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        self._holder.stdout.read(1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder is not None
        assert self._holder.stdout is not None
        self._holder.kill()
        self._holder.wait()
        self._holder.stdout.close()

    @property
    def pid(self) -> int:
        """A process in it."""
        assert self._holder is not None
        return self._holder.pid

    @property
    def prefix(self) -> tuple[str, ...]:
        """The words in front of a command that is to run in it."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def pair(self, name: str, other: str) -> None:
        """A new pair of devices (veth(4)); skips the test where the kernel makes none."""
        words = ("ip", "link", "add", name, "type", "veth", "peer", "name", other)
        made = subprocess.run([*self.prefix, *words], check=False, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"this kernel makes no veth: {made.stderr.strip()}")
