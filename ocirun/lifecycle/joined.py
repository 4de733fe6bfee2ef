"""The mappings of a config beside those that the joined user namespace has.

Who owns what outside is planned by those of the config, the cgroup of the container for one; so they must not
be wrong.  The kernel tells those of the namespace as soon as init is in it.
"""

from __future__ import annotations

from ocirun.errors import ConfigError, Fault
from ocirun.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocirun_spec.types import Linux


def check_mappings(linux: Linux, pid: int) -> None:
    """Raises ConfigError where ``linux`` tells other mappings than the user namespace of ``pid`` has.

    Both in any order, and in any number of pieces (user_namespaces(7)).
    """
    faults: list[Fault] = []
    for member, mappings, file in (
        ("uidMappings", linux.get("uidMappings", ()), "uid_map"),
        ("gidMappings", linux.get("gidMappings", ()), "gid_map"),
    ):
        told = _merged((one["containerID"], one["hostID"], one["size"]) for one in mappings)
        try:
            text = read_file(f"/proc/{pid}/{file}").decode()
        except OSError:  # it was killed, which is told by who waits for it
            return
        has = _merged(tuple(map(int, line.split())) for line in text.splitlines())
        if told and has and told != has:
            rule = "is not what the user namespace has that is joined"
            words = ", ".join(" ".join(map(str, row)) for row in has)
            hint = f"leave it out, or tell what it has (id there, on the host, how many): {words}"
            faults.append(Fault(f"/linux/{member}", rule, hint=hint))
    if faults:
        raise ConfigError(faults)


def _merged(rows: Iterable[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The rows in order; those that go on where the one before ends are one."""
    found: list[tuple[int, ...]] = []
    for inside, outside, size in sorted(rows):
        if found:
            first, there, length = found[-1]
            if (first + length, there + length) == (inside, outside):
                found[-1] = (first, there, length + size)
                continue
        found.append((inside, outside, size))
    return found
