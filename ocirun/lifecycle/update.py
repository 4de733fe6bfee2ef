"""Changes the limits of a container: a planner's settings, written to the files of its cgroup."""

from __future__ import annotations

from ocirun import SPEC_VERSION
from ocirun import config as reading
from ocirun import host as facts
from ocirun.cgroup.settings import set_cgroup
from ocirun.errors import ConfigError, Fault, StateError
from ocirun.files import read_file
from ocirun.jsontext import dumps
from ocirun.lifecycle.process import not_running
from ocirun.lifecycle.state import CREATED, PAUSED, RUNNING, State, entries_of
from ocirun.lifecycle.undo import ignore
from ocirun.planner import resources as limits
from ocirun.planner.draft import Draft, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeGuard

    from ocirun_spec.types import Config, Resources

    from ocirun.lifecycle.store import Store
    from ocirun.waiting import Task

HERE = "/linux/resources"


def update(
    store: Store,
    container: str,
    wanted: Mapping[str, object],
    name: str = "the new limits",
    warn: Callable[[Fault], None] = ignore,
) -> Task[None]:
    """Sets the limits that ``wanted``, a Resources object from outside, asks for; others stay as they are.

    ``name`` is what errors call it.  Its device rules are not looked at: engines repeat those of config.json.
    Everything is checked before anything is written; what is written stays where a later limit is refused.
    Raises ConfigError with every fault, HostError for a controller that is not there, StateError for a
    container that has stopped, DriverError for what the kernel refuses.
    """
    yield from ()
    entries = entries_of(store, container)
    if State(container, entries).status not in (CREATED, RUNNING, PAUSED):
        raise not_running()
    where = entries.cgroup
    config = checked(_completed(wanted, where), name)
    draft = Draft(config, facts.gather(), Options(container, bundle="/", state_directory="/"))
    steps = limits.limit(draft, where)
    draft.check_texts(steps)
    draft.settle()
    _check_use(config.get("linux", {}).get("resources", {}), where)
    for fault in draft.warnings:
        warn(fault)
    for step in steps:
        path, writes, needed = step.args
        assert isinstance(writes, tuple)
        set_cgroup(str(path), [str(word) for word in writes], needed=bool(needed), pointer=step.pointer)


def _completed(wanted: Mapping[str, object], where: str) -> dict[str, object]:
    """Without the rules of devices; a limit of swap alone is one of memory and swap for the present limit of
    memory."""
    found = {name: value for name, value in wanted.items() if name != "devices"}
    memory = found.get("memory")
    if _is_object(memory) and memory.get("swap") and not memory.get("limit"):
        present = _number(f"{where}/memory.max")
        if present >= 0:
            found["memory"] = {**memory, "limit": present}
    return found


def _is_object(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def checked(wanted: Mapping[str, object], name: str) -> Config:
    """A config with nothing but these resources; raises ConfigError with every fault of them."""
    whole = {"ociVersion": SPEC_VERSION, "root": {"path": "/"}, "linux": {"resources": wanted}}
    try:
        return reading.read(dumps(whole).encode("utf-8", "surrogatepass"), name).config
    except ConfigError as error:
        # lines and columns would be those of our own text
        faults = [Fault(one.pointer, one.rule, value=one.value, hint=one.hint) for one in error.faults]
        raise ConfigError(faults, name=name, code=error.code) from None


def _check_use(resources: Resources, where: str) -> None:
    """With checkBeforeUpdate a limit below what is used is refused (config-linux.md, Memory)."""
    memory = resources.get("memory", {})
    size = memory.get("limit", 0)
    used = _number(f"{where}/memory.current") if memory.get("checkBeforeUpdate", False) and size > 0 else 0
    if used > size:
        raise StateError(
            f"the new memory limit {size} is below the {used} bytes in use",
            pointer=f"{HERE}/memory/limit",
            hint="give more, or leave checkBeforeUpdate out",
        )


def _number(path: str) -> int:
    """The number in a file of the cgroup; -1 for "max" and where there is no such file."""
    try:
        text = read_file(path).strip()
    except FileNotFoundError:
        return -1
    return int(text) if text.isdigit() else -1
