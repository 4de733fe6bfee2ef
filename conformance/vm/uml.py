"""User-mode Linux: a kernel that is a process of ours (virt/uml/user_mode_linux_howto_v2.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.vm.image import Image


def command(image: Image, scratch: Path, job: Path, kernel: str, memory: int) -> list[str]:
    """The machine with ``memory`` MiB; its kernel is told ``kernel``.

    The job speaks on its standard output, the kernel on its standard error; all it writes is below
    ``scratch``.
    """
    return [
        str(image.uml),
        # by seccomp a third faster than by ptrace, and not isolated from its kernel, which harms nobody
        "seccomp=auto",
        f"mem={memory}M",
        f"uml_dir={scratch}/",
        # written is a sparse file beside the image
        f"ubd0={scratch}/root.cow,{image.disk}",
        f"ubd1={job}",
        "root=/dev/ubda",
        "con=null",
        "con0=null,fd:2",
        "ssl=null",
        "ssl0=null,fd:1",
        *kernel.split(),
    ]
