"""What enters a container runs from a file nobody can write to (CVE-2019-5736)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import launchers
from tests.host import observe
from tests.host.bundles import Bundle
from tests.host.runtimes import Runtime, new_id

SYSCTL = Path("/proc/sys/vm/memfd_noexec")
#: vm.memfd_noexec belongs to the pid namespace: set in one of our own it forbids nothing to anybody else.
NO_MEMFD = (
    "unshare", "--pid", "--fork", "--mount", "--mount-proc",
    "sh", "-c", 'echo 2 >/proc/sys/vm/memfd_noexec && exec "$0" "$@"',
)  # fmt: skip


def test_a_waiting_init_runs_from_a_sealed_memfd(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    exe = Path(f"/proc/{container.pid}/exe")
    assert os.readlink(exe).startswith("/memfd:ocirun-helper")
    with pytest.raises(OSError, match=r"Text file busy|Operation not permitted"):
        exe.open("r+b")
    container.start()
    container.kill()
    container.wait()


def test_the_waiting_init_is_small_and_cannot_be_traced(ocirun: Runtime, bundle: Bundle) -> None:
    container = ocirun.create(bundle.sleeping())
    assert observe.status(container.pid)["VmRSS"].split()[0].isdigit()
    assert int(observe.status(container.pid)["VmRSS"].split()[0]) < 512
    # a non-dumpable process belongs to root in /proc, whoever it runs as
    assert Path(f"/proc/{container.pid}/environ").stat().st_uid == 0


@pytest.mark.skipif(not SYSCTL.exists(), reason="this kernel has no vm.memfd_noexec")
def test_where_memfds_cannot_be_executed_a_detached_mount_serves(ocirun: Runtime, bundle: Bundle) -> None:
    bundle.args("readlink", "/proc/self/exe").write()
    assert ocirun.run(bundle).ok().stdout.strip() == "/bin/busybox"
    command = (*NO_MEMFD, *ocirun.command("run", "--bundle", str(bundle.path), new_id()))
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "/bin/busybox"), done.stderr


def test_a_helper_of_another_build_is_refused(tmp_path: Path) -> None:
    from ocirun.errors import HelperError
    from ocirun.executor.sealed import open_helper

    other = tmp_path / "helper"
    other.write_bytes(b"\x7fELF of some other build")
    with pytest.raises(HelperError, match="not the one this ocirun was built with") as caught:
        open_helper(str(other))
    assert caught.value.code == "helper-protocol"
    with pytest.raises(HelperError, match="ENOENT"):
        open_helper(str(tmp_path / "missing"))


def test_nothing_is_made_where_the_helper_is_missing(ocirun: Runtime, bundle: Bundle, scratch: Path) -> None:
    """It takes the helper to undo what was made before it was missed."""
    for package in ("ocirun", "spec"):
        ignored = shutil.ignore_patterns("ocirun-helper", "__pycache__")
        shutil.copytree(launchers.REPOSITORY / package, scratch / "copy" / package, ignore=ignored)
    boot = (sys.executable, "-I", "-S", "-B", "-X", "utf8", scratch / "copy/ocirun/boot.py")
    words = ("--root", ocirun.root, "create", "--bundle", bundle.write().path, new_id())
    done = subprocess.run(
        [*boot, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert "open the helper: no such file or directory (ENOENT)" in done.stderr
    assert not ocirun.root.exists() or os.listdir(ocirun.root) == []
