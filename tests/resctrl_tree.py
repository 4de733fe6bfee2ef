"""A simulated resctrl: plain directories, in which this stands in for what the kernel does (resctrl.rst).

No machine of ours has a CPU with it, so nothing here proves what a kernel does; it proves what we ask for.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ocirun.cgroup import resctrl

if TYPE_CHECKING:
    import pytest

_FIRST = {"L3": "    L3:0=0fff;1=0fff", "MB": "    MB:0= 100;1= 100"}
_INFO = {
    "L3/cbm_mask": "fff",
    "L3/min_cbm_bits": "2",
    "L3/num_closids": "16",
    "MB/bandwidth_gran": "10",
    "MB/delay_linear": "1",
    "MB/min_bandwidth": "10",
    "MB/num_closids": "8",
    "L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes",
}


class Tree:
    """The tree at ``mount``; ``written`` are the writes so far, as path below it and text."""

    def __init__(self, mount: Path, patch: pytest.MonkeyPatch) -> None:
        self.mount = mount
        self.written: list[tuple[str, str]] = []
        #: Directories that may still be made, before the kernel has no class or group left.
        self.left = 8
        self._counted: dict[str, str] = {}
        if not mount.exists():
            self._fill(mount)
            (mount / "info").mkdir()
        (mount / "info/last_cmd_status").write_text("ok\n")
        patch.setattr(resctrl, "make_directory", self._make)
        patch.setattr(resctrl, "make_removed", self._remove)
        patch.setattr(resctrl, "write_file", self._write)

    def classes(self) -> set[str]:
        """The classes beside the default one."""
        return {path.name for path in self.mount.iterdir() if path.is_dir()} - {"info", "mon_groups"}

    def groups(self, of: str = "") -> set[str]:
        """The monitoring groups of a class."""
        return {path.name for path in (self.mount / of / "mon_groups").iterdir()}

    def tasks(self, place: str = "") -> list[int]:
        """Who was put into a class or group."""
        return [int(word) for word in (self.mount / place / "tasks").read_text().split()]

    def schemata(self, of: str = "") -> str:
        """The lines of a class, without the spaces in front."""
        return "".join(
            f"{line.strip()}\n" for line in (self.mount / of / "schemata").read_text().splitlines()
        )

    def describe(self, **numbers: str) -> None:
        """Fills info as a CPU with all of it does, and has each group count: ``numbers`` are the files of the
        first cache, the second has them with a digit more."""
        for name, text in _INFO.items():
            (self.mount / "info" / name).parent.mkdir(exist_ok=True)
            (self.mount / "info" / name).write_text(f"{text}\n")
        self._counted = numbers

    def _fill(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        (path / "tasks").write_text("")
        for number, digit in ((0, ""), (1, "5")) if self._counted else ():
            (path / f"mon_data/mon_L3_0{number}").mkdir(parents=True)
            for name, text in self._counted.items():
                (path / f"mon_data/mon_L3_0{number}" / name).write_text(f"{text}{digit}\n")
        if path.parent.name != "mon_groups":
            (path / "schemata").write_text("\n".join(_FIRST.values()) + "\n")
            (path / "mon_groups").mkdir()

    def _make(self, path: str) -> None:
        if Path(path).exists():
            raise FileExistsError(errno.EEXIST, "exists", path)
        if not self.left:
            (self.mount / "info/last_cmd_status").write_text("Out of RMIDs\n")
            raise OSError(errno.ENOSPC, "no space", path)
        self.left -= 1
        self._fill(Path(path))

    def _remove(self, path: str) -> None:
        os.stat(path)
        shutil.rmtree(path)

    def _write(self, path: str, content: bytes, flags: int = 0) -> None:
        del flags
        text = content.decode()
        assert text.endswith("\n"), "the kernel takes whole lines"
        self.written.append((str(Path(path).relative_to(self.mount)), text))
        if path.endswith("/tasks"):
            with Path(path).open("a") as file:
                file.write(text)
            return
        lines = {line.strip().partition(":")[0]: line for line in Path(path).read_text().splitlines()}
        for line in text.splitlines():
            name = line.partition(":")[0]
            if name not in lines:
                (self.mount / "info/last_cmd_status").write_text(
                    f"Unknown or unsupported resource name '{name}'\n"
                )
                raise OSError(errno.EINVAL, "invalid", path)
            lines[name] = line
        Path(path).write_text("\n".join(lines.values()) + "\n")
