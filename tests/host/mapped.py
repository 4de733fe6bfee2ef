"""Executes a command as the root of a new user and mount namespace: python -m tests.host.mapped FIRST SIZE
COMMAND, as Podman and rootlesskit do it for a runtime."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.host import kernel


def main() -> None:
    """Two pipes: the namespace is there, the mappings are."""
    first, size, *command = sys.argv[1:]
    made, mapped = os.pipe(), os.pipe()
    ours = os.getpid()
    if os.fork() == 0:
        os.close(made[1])
        if not os.read(made[0], 1):
            os._exit(1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{ours}/{name}").write_text(f"0 {first} {size}")
        os.write(mapped[1], b"x")
        os._exit(0)
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    os.write(made[1], b"x")
    os.read(mapped[0], 1)
    os.wait()
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.setgroups([])
    os.execvp(command[0], command)  # noqa: S606 - the whole purpose


if __name__ == "__main__":
    main()
