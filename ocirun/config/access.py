"""Look into a parsed config.json that may be wrong anywhere: what is absent or of another type is passed
over.

The checker of the schema tells wrong types; the rules across members must find the rest of the faults in
the same run, so they read through these functions and never trip over a wrong neighbour.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun_spec.checker import Json

    Object = dict[str, Json]
    #: Called with the pointer, the rule and the hint of a fault.
    Found = Callable[[str, str, str], None]


def an_object(holder: Object, name: str) -> Object:
    """The object under ``name``, or an empty one."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def objects(holder: Object, name: str) -> list[tuple[int, Object]]:
    """The objects in the array under ``name``, each with its index."""
    value = holder.get(name)
    if not isinstance(value, list):
        return []
    return [(index, item) for index, item in enumerate(value) if isinstance(item, dict)]


def strings(holder: Object, name: str) -> list[tuple[int, str]]:
    """The strings in the array under ``name``, each with its index."""
    value = holder.get(name)
    if not isinstance(value, list):
        return []
    return [(index, item) for index, item in enumerate(value) if isinstance(item, str)]


def string(holder: Object, name: str) -> str | None:
    """The string under ``name``, or None."""
    value = holder.get(name)
    return value if isinstance(value, str) else None


def integer(holder: Object, name: str) -> int | None:
    """The integer under ``name``, or None."""
    value = holder.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def within(holder: Object, name: str, low: int, high: int) -> bool:
    """Whether the integer under ``name`` is absent or from ``low`` to ``high``."""
    value = integer(holder, name)
    return value is None or low <= value <= high


class Namespaces:
    """The namespaces that a config asks for: ``kinds`` all of them, ``joined`` those with a path.

    Where the list is faulty nothing is known for sure; then every kind counts as asked for, so that one
    fault does not make others out of nothing.
    """

    __slots__ = ("joined", "kinds")

    def __init__(self, config: Object) -> None:
        linux = an_object(config, "linux")
        listed = objects(linux, "namespaces")
        value = linux.get("namespaces", [])
        self.kinds = {kind for _, item in listed if (kind := string(item, "type")) is not None}
        self.joined: set[str] = {str(item.get("type")) for _, item in listed if "path" in item}
        known = isinstance(config.get("linux", linux), dict)
        whole = known and isinstance(value, list) and len(value) == len(listed)
        if not whole or any(string(item, "type") not in KINDS for _, item in listed):
            self.kinds |= KINDS
            self.joined = set()


KINDS = frozenset({"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"})
