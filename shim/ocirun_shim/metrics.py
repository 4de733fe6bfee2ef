"""The numbers of a cgroup as the message that containerd, Docker and the CRI read."""

from __future__ import annotations

from ocirun.cgroup.stats import Stats
from ocirun_shim.messages import metrics_pb2 as pb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_CPU = "usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec nr_bursts burst_usec".split()


def metrics(where: str) -> pb.Metrics | None:
    """The metrics of the cgroup at a directory; None where it is gone.

    Sections of controllers that are not enabled are there, and empty: clients look into them unasked.
    """
    stats = Stats(where)
    if not stats.exists():
        return None
    answer = pb.Metrics(
        pids=pb.PidsStat(current=stats.number("pids.current"), limit=stats.number("pids.max")),
        memory=_memory(stats),
        memory_events=pb.MemoryEvents(**_known(pb.MemoryEvents, stats.keyed("memory.events"))),
        rdma=pb.RdmaStat(current=_rdma(stats, "rdma.current"), limit=_rdma(stats, "rdma.max")),
        io=_io(stats),
        hugetlb=[_huge_pages(stats, size) for size in stats.page_sizes()],
    )
    cpu = stats.keyed("cpu.stat")
    answer.cpu.CopyFrom(pb.CPUStat(**{name: cpu.get(name, 0) for name in _CPU}, psi=_psi(stats, "cpu")))
    return answer


def _known(message: type[Message], numbers: Mapping[str, int]) -> dict[str, int]:
    """Those of ``numbers`` that the message has a field for: newer kernels count more."""
    return {name: value for name, value in numbers.items() if name in message.DESCRIPTOR.fields_by_name}


def _memory(stats: Stats) -> pb.MemoryStat:
    return pb.MemoryStat(
        **_known(pb.MemoryStat, stats.keyed("memory.stat")),
        usage=stats.number("memory.current"),
        usage_limit=stats.number("memory.max"),
        max_usage=stats.number("memory.peak"),
        swap_usage=stats.number("memory.swap.current"),
        swap_limit=stats.number("memory.swap.max"),
        swap_max_usage=stats.number("memory.swap.peak"),
        psi=_psi(stats, "memory"),
    )


def _psi(stats: Stats, kind: str) -> pb.PSIStats | None:
    lines = stats.nested(f"{kind}.pressure")
    if not lines:
        return None
    return pb.PSIStats(
        **{
            name: pb.PSIData(
                avg10=float(pairs.get("avg10", 0)),
                avg60=float(pairs.get("avg60", 0)),
                avg300=float(pairs.get("avg300", 0)),
                total=int(pairs.get("total", 0)),
            )
            for name, pairs in lines.items()
            if name in ("some", "full")
        }
    )


def _io(stats: Stats) -> pb.IOStat:
    names = ("rbytes", "wbytes", "rios", "wios")
    entries: list[pb.IOEntry] = []
    for device, pairs in stats.nested("io.stat").items():
        major, _, minor = device.partition(":")
        numbers = {name: int(pairs.get(name, 0)) for name in names}
        entries.append(pb.IOEntry(major=int(major), minor=int(minor), **numbers))
    return pb.IOStat(usage=entries, psi=_psi(stats, "io"))


def _huge_pages(stats: Stats, size: str) -> pb.HugeTlbStat:
    return pb.HugeTlbStat(
        pagesize=size,
        current=stats.number(f"hugetlb.{size}.current"),
        max=stats.number(f"hugetlb.{size}.max"),
        failcnt=stats.keyed(f"hugetlb.{size}.events").get("max", 0),
    )


def _rdma(stats: Stats, name: str) -> list[pb.RdmaEntry]:
    def count(text: str) -> int:
        return int(text) if text.isdigit() else (1 << 32) - 1

    return [
        pb.RdmaEntry(
            device=device,
            hca_handles=count(pairs.get("hca_handle", "0")),
            hca_objects=count(pairs.get("hca_object", "0")),
        )
        for device, pairs in stats.nested(name).items()
    ]
