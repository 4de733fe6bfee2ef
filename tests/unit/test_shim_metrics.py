"""The numbers of a cgroup as the message of containerd: from files as the kernel writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirun_shim.metrics import metrics

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "pids.current": "3\n",
    "pids.max": "max\n",
    "cpu.stat": "usage_usec 7000\nuser_usec 4000\nsystem_usec 3000\nnice_usec 1\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=99\n",
    "memory.current": "4096\n",
    "memory.max": "8192\n",
    "memory.peak": "5000\n",
    "memory.stat": "anon 100\nfile 200\na_number_of_the_future 5\n",
    "memory.events": "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\n",
    "io.stat": "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=max\n",
    "hugetlb.2MB.current": "2097152\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 6\n",
    "hugetlb.2MB.rsvd.current": "0\n",
}
NO_LIMIT = (1 << 64) - 1


def test_every_section(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    found = metrics(str(tmp_path))
    assert found is not None
    assert (found.pids.current, found.pids.limit) == (3, NO_LIMIT)
    assert (found.cpu.usage_usec, found.cpu.system_usec, found.cpu.psi.some.avg10) == (7000, 3000, 1.5)
    assert (found.memory.usage, found.memory.usage_limit, found.memory.max_usage) == (4096, 8192, 5000)
    assert (found.memory.anon, found.memory.file) == (100, 200)
    assert (found.memory_events.high, found.memory_events.oom_kill) == (1, 4)
    (device,) = found.io.usage
    assert (device.major, device.minor, device.rbytes, device.wios) == (8, 16, 10, 2)
    (entry,) = found.rdma.current
    assert (entry.device, entry.hca_handles, entry.hca_objects) == ("mlx4_0", 2, (1 << 32) - 1)
    (pages,) = found.hugetlb
    assert (pages.pagesize, pages.current, pages.max, pages.failcnt) == ("2MB", 2097152, NO_LIMIT, 6)


def test_sections_without_a_controller_are_there_and_empty(tmp_path: Path) -> None:
    found = metrics(str(tmp_path))
    assert found is not None
    assert found.HasField("memory")
    assert found.HasField("cpu")
    assert found.HasField("pids")
    assert list(found.hugetlb) == []


def test_a_cgroup_that_is_gone(tmp_path: Path) -> None:
    assert metrics(str(tmp_path / "gone")) is None
