"""What a snapshot of the interpreter has done before it is taken (native/snapshot.c): it has planned.

Python specialises the code that it has run some times.  Planning is pure, so it can be run where there is no
container, and each command finds its code specialised.
"""

from __future__ import annotations

import gc
import posix

from ocirun.config import read
from ocirun.executor.wire import encode
from ocirun.host import Host
from ocirun.plan.compile import compile_plan
from ocirun.planner import Options, plan

_CONFIG = "default-config.json"
_ENOUGH = 1 << 16
_TIMES = 10
_HOST = Host(
    cgroup_mount="/sys/fs/cgroup",
    hybrid=False,
    controllers=frozenset({"cpu", "io", "memory", "pids"}),
    capabilities=(1 << 41) - 1,
    kernel=(6, 12),
    euid=0,
)
_OPTIONS = Options(
    "rehearsal", bundle="/bundle", state_directory="/run/ocirun/rehearsal", console_socket=True
)


def rehearse(times: int = _TIMES) -> None:
    """Plans the config of ``ocirun spec``, which lies in the working directory of the build's run."""
    handle = posix.open(_CONFIG, posix.O_RDONLY)
    source = posix.read(handle, _ENOUGH)
    posix.close(handle)
    for _ in range(times):
        planned = plan(read(source, _CONFIG).config, _HOST, _OPTIONS)
        encode(compile_plan(planned))
        gc.collect()
