"""The rules of /linux/resources."""

from __future__ import annotations

from ocirun_spec.checker import escape

from ocirun.config.access import an_object, integer, objects, string, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.config.access import Found, Object

HERE = "/linux/resources"


def check_resources(of: Object, found: Found) -> None:
    """Report every fault of the resources."""
    if not of:
        return
    for rule in (device_rules, memory, swap, cpu, cpu_lists, block_io, huge_pages, rdma, unified):
        rule(of, found)


def device_rules(of: Object, found: Found) -> None:
    """Rules are of type a, b or c, with access rwm, and numbers or none (config-linux.md, Allowed Device
    list)."""
    for index, item in objects(of, "devices"):
        pointer, kind = f"{HERE}/devices/{index}", string(item, "type")
        if kind is not None and kind not in ("a", "b", "c"):
            found(f"{pointer}/type", 'must be "a", "b" or "c"', "a: all devices, b: block, c: character")
        if (string(item, "access") or "").strip("rwm"):
            found(f"{pointer}/access", "must consist of r, w and m", "r: read, w: write, m: mknod")
        for member in ("major", "minor"):
            if (integer(item, member) or 0) < -1:
                found(f"{pointer}/{member}", "must not be negative", "leave it out for any number")


def memory(of: Object, found: Found) -> None:
    """Limits are bytes or -1, swappiness a percentage (config-linux.md, Memory)."""
    of = an_object(of, "memory")
    for member in ("limit", "reservation", "swap", "kernel", "kernelTCP"):
        if (integer(of, member) or 0) < -1:
            found(f"{HERE}/memory/{member}", "must be bytes or -1", "-1 stands for no limit")
    if not within(of, "swappiness", 0, 100):
        found(f"{HERE}/memory/swappiness", "must be from 0 to 100", "it is a percentage")


def swap(of: Object, found: Found) -> None:
    """The swap limit is memory and swap together: so it needs a limit of memory and is not below it."""
    of = an_object(of, "memory")
    both, limit = integer(of, "swap") or 0, integer(of, "limit") or 0
    if both <= 0:
        return
    if limit <= 0 and ("limit" not in of or isinstance(of["limit"], int)):
        found(f"{HERE}/memory/swap", "needs a memory limit beside it", "swap counts memory and swap together")
    elif both < limit:
        found(
            f"{HERE}/memory/swap",
            f"must not be below the memory limit {limit}",
            "swap counts memory and swap together",
        )


def cpu(of: Object, found: Found) -> None:
    """The burst is at most the quota when there is one; idle is 0 or 1 (config-linux.md, CPU)."""
    of = an_object(of, "cpu")
    burst, quota = integer(of, "burst") or 0, integer(of, "quota") or 0
    if 0 < quota < burst:
        found(
            f"{HERE}/cpu/burst", f"must not be above the quota {quota}", "only unused quota can be saved up"
        )
    if not within(of, "idle", 0, 1):
        found(f"{HERE}/cpu/idle", "must be 0 or 1", "1 runs only when nothing else does")


def cpu_lists(of: Object, found: Found) -> None:
    """Numbers and ranges, with commas between them (config-linux.md, CPU; cpuset(7), List format)."""
    of = an_object(of, "cpu")
    for member in ("cpus", "mems"):
        listed = string(of, member) or ""
        if listed and not all(_is_range(part) for part in listed.strip().split(",")):
            hint = "0-3,7 stands for 0, 1, 2, 3 and 7"
            found(f"{HERE}/cpu/{member}", "must be a list of numbers and ranges", hint)


def _is_range(part: str) -> bool:
    """N or N-M, and of a range perhaps :USED/GROUP, the first so many of each group."""
    whole, colon, groups = part.partition(":")
    first, dash, last = whole.partition("-")
    used, slash, size = groups.partition("/")
    numbers = [first, *([last] if dash else []), *([used, size] if colon else [])]
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
        return False
    if colon and not (dash and slash and 0 < int(used) <= int(size)):
        return False
    return not dash or int(first) <= int(last)


def block_io(of: Object, found: Found) -> None:
    """Weights are from 10 to 1000, or 0 for unset; a device has at least one (config-linux.md, Block IO)."""
    of = an_object(of, "blockIO")
    parts = [("", of), *((f"/weightDevice/{index}", item) for index, item in objects(of, "weightDevice"))]
    for pointer, part in parts:
        for member in ("weight", "leafWeight"):
            if integer(part, member) and not within(part, member, 10, 1000):
                found(
                    f"{HERE}/blockIO{pointer}/{member}",
                    "must be from 10 to 1000",
                    "leave it out for the default",
                )
        if pointer and not part.keys() & {"weight", "leafWeight"}:
            rule = "must have weight or leafWeight"
            found(f"{HERE}/blockIO{pointer}", rule, "an entry without a weight changes nothing")


def huge_pages(of: Object, found: Found) -> None:
    """Each size has one limit."""
    seen: dict[str, int] = {}
    for index, item in objects(of, "hugepageLimits"):
        size = string(item, "pageSize")
        if size is not None and size in seen:
            first = f"{HERE}/hugepageLimits/{seen[size]}"
            found(
                f"{HERE}/hugepageLimits/{index}/pageSize",
                "stands twice",
                f"first at {first}; keep one of the two",
            )
        seen.setdefault(size or "", index)


def rdma(of: Object, found: Found) -> None:
    """A device has at least one of the two limits (config-linux.md, RDMA)."""
    for name, limits in an_object(of, "rdma").items():
        if isinstance(limits, dict) and not limits.keys() & {"hcaHandles", "hcaObjects"}:
            pointer = f"{HERE}/rdma/{escape(name)}"
            found(pointer, "must have hcaHandles or hcaObjects", "an entry without limits limits nothing")


def unified(of: Object, found: Found) -> None:
    """Names are files of one cgroup directory, so they cannot reach any other."""
    for name in an_object(of, "unified"):
        if "/" in name or name in ("", ".", ".."):
            pointer = f"{HERE}/unified/{escape(name)}"
            found(pointer, "must be the name of a file, without a slash", 'such as "memory.high"')
