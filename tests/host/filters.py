"""Seccomp profiles for bundles, and the program that tries system calls under them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pyseccomp

from tests.unit.profiles import number_of

if TYPE_CHECKING:
    from tests.host.bundles import Bundle, Json
    from tests.host.runtimes import Container

NATIVE = pyseccomp.system_arch()
#: What a program without a C library lives on, and what a runtime needs under the filter (the laws of order).
LEAST = ("read", "write", "execve", "exit_group")
LEAST_TO_BECOME = (*LEAST, "prctl", "capset", "setgroups", "setresgid", "setresuid")


def native(name: str) -> int:
    """The number of a system call on this machine."""
    return number_of(NATIVE, name)


def known(newest: int) -> list[str]:
    """The names of all system calls that libseccomp knows here, up to a number."""
    found: list[str] = []
    for number in range(newest + 1):
        try:
            found.append(pyseccomp.resolve_syscall(NATIVE, number).decode())
        except ValueError:
            continue
    return found


def denying(
    *names: str, action: str = "SCMP_ACT_ERRNO", errno_ret: int | None = None, args: Json = None
) -> dict[str, Json]:
    """A profile that allows all but some."""
    entry: dict[str, Json] = {"names": [*names], "action": action}
    if errno_ret is not None:
        entry["errnoRet"] = errno_ret
    if args is not None:
        entry["args"] = args
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}


def allowing(*names: str, default: str = "SCMP_ACT_ERRNO", **members: Json) -> dict[str, Json]:
    """A profile that denies all but some."""
    entry: dict[str, Json] = {"names": [*names], "action": "SCMP_ACT_ALLOW"}
    return {"defaultAction": default, "syscalls": [entry], **members}


def with_caller(bundle: Bundle) -> Bundle:
    """The bundle with the program ``caller`` in its root file system."""
    source, program = Path(__file__).with_name("caller.c"), bundle.rootfs / "bin/caller"
    flags = ("-O2", "-static", "-nostdlib", "-fno-stack-protector")
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return bundle


def calling(bundle: Bundle, *arguments: int | str) -> Bundle:
    """The bundle whose program makes one system call and tells what came of it."""
    return with_caller(bundle).args("/bin/caller", *map(str, arguments))


def kept(container_root: Path) -> list[Path]:
    """The filters in the cache below the root of a store."""
    return sorted((container_root / ".seccomp").iterdir())


def filters_of(container: Container) -> tuple[str, str]:
    """Mode and number of the filters of init, as the kernel tells them."""
    text = Path(f"/proc/{container.pid}/status").read_text()
    table = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    return table["Seccomp"], table["Seccomp_filters"]
