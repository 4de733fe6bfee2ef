"""An emulated PC (QEMU without KVM) with the stock kernel of the image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.vm.image import Image

PROGRAM = "qemu-system-x86_64"


def command(image: Image, scratch: Path, job: Path, kernel: str, memory: int, processors: int) -> list[str]:
    """The machine with ``memory`` MiB; its kernel is told ``kernel``.

    The job speaks on its standard output, the kernel into ``scratch``/console.
    """
    disks = (
        # The root is NVMe, whose driver the stock kernel has built in: so there is no initramfs.  The job is
        # not, since two of that kind are found in any order.  Nobody writes the image: a lock would only be
        # in the way of User-mode Linux, which takes one of its own.
        ("nvme,serial=root,drive=root", f"id=root,snapshot=on,file.locking=off,file={image.disk}"),
        ("virtio-blk-pci,drive=job", f"id=job,file={job}"),
    )
    words = [PROGRAM, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-M", "q35"]
    words += ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"]
    words += ["-smp", str(processors), "-m", str(memory), "-kernel", str(image.kernel)]
    words += ["-serial", f"file:{scratch}/console", "-chardev", "stdio,id=out,signal=off"]
    words += ["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=out"]
    words += ["-device", "virtio-rng-pci"]
    for device, drive in disks:
        words += ["-drive", f"if=none,format=raw,cache=unsafe,{drive}", "-device", device]
    own = f"root=/dev/nvme0n1 console=ttyS0 nokaslr no_timer_check {_clock()}"
    return [*words, "-append", f"{own} {kernel}"]


def _clock() -> str:
    """Calibrated against an emulated timer on a busy host the clock can run eight times too fast, so the
    guest is told: BogoMIPS is twice the frequency in MHz."""
    found = re.search(r"bogomips\s*: (\S+)", Path("/proc/cpuinfo").read_text())
    return f"tsc=reliable tsc_early_khz={int(float(found[1]) * 500)}" if found else ""
