"""The command ``validate``: every fault of a config.json, by jsonschema and by the rules across members.

Nothing here is on the way of a container, so it may import what it likes.  It tells what ``config.read``
tells, by another judge of the schema; the tests hold the two together.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import ocirun_spec
from ocirun_spec.checker import check, escape
from ocirun_spec.wording import REQUIRED, rule_of, too_few

from ocirun.config import load_bytes, place_of, read
from ocirun.config.diagnosis import examine
from ocirun.errors import ConfigError, Fault, HostError
from ocirun.host import Host
from ocirun.lifecycle.caller import filter_of
from ocirun.planner import Options, plan
from ocirun.seccomp.misspelt import misspelt
from ocirun.waiting import drive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.protocols import Validator
    from ocirun_spec.checker import Fault as Broken
    from ocirun_spec.checker import Json, Unknown


def validate(path: str) -> list[Fault]:
    """Every fault of the config.json at ``path``, in the order of the document; raises ConfigError if
    unreadable."""
    return examine(load_bytes(path), by_jsonschema)[1]


def main_validate(bundle: str, form: str) -> tuple[int, str]:
    """The exit status and the output of ``validate`` for a bundle; ``form`` is ``json`` or ``text``.

    The status is 0 when there is no fault, warnings or not, and 1 when there is one.
    """
    path = os.path.join(bundle, "config.json")
    try:
        source = load_bytes(path)
        _, faults, warnings = examine(source, by_jsonschema)
    except ConfigError as error:
        source, faults, warnings = b"", list(error.faults), []
    told = [("error", fault) for fault in faults] + [("warning", fault) for fault in warnings]
    if not faults:
        told += [("warning", fault) for fault in _misspelt_calls(source)]
        told += [("refused", fault) for fault in _refused(source)]
    told.sort(key=lambda entry: place_of(entry[1]))
    return 1 if faults else 0, _as_json(told) if form == "json" else _as_text(path, told)


def _misspelt_calls(source: bytes) -> list[Fault]:
    document = read(source)
    profile = document.config.get("linux", {}).get("seccomp")
    try:
        found = list(misspelt(profile)) if profile is not None else []
    except HostError:  # no libseccomp, no names
        return []
    for fault in found:
        document.locate(fault)
    return found


def _refused(source: bytes) -> list[Fault]:
    """What a valid config asks for and create refuses, whatever the host: what this version does not build,
    and what only shows when it is planned."""
    document = read(source)
    able = Host(
        cgroup_mount="/sys/fs/cgroup",
        hybrid=False,
        controllers=_CONTROLLERS,
        capabilities=~0,
        kernel=(99, 0),
        euid=0,
        apparmor=True,
    )
    wanted = Options("validate", bundle="/", state_directory="/run/validate", foreground_terminal=True)
    wanted.seccomp = drive(filter_of(document.config, wanted.state_directory, keep=False))
    try:
        plan(document.config, able, wanted)
    except ConfigError as error:
        document.locate(error)
        return list(error.faults)
    except HostError:
        pass  # the one thing that an able host lacks is a library to compile a filter with
    return []


_CONTROLLERS = frozenset("cpu cpuset io memory pids hugetlb rdma misc".split())


def _as_json(told: list[tuple[str, Fault]]) -> str:
    """An array of what there is to tell; ``level`` is error, warning, or refused: valid, but create won't."""
    members = ("pointer", "line", "column", "value", "rule", "hint")
    entries = [{"level": level, **{name: getattr(fault, name) for name in members}} for level, fault in told]
    return json.dumps(entries, indent=2) + "\n"


def _as_text(path: str, told: list[tuple[str, Fault]]) -> str:
    before = {"error": "", "warning": "warning: ", "refused": "create refuses: "}
    lines = "".join(f"{before[level]}{fault.render(path)}\n" for level, fault in told)
    levels = [level for level, _ in told]
    end = _counted(levels.count("error"), "fault")
    if "refused" in levels:
        end += f", but {_counted(levels.count('refused'), 'member')} that create refuses"
    return f"{lines}{path}: {end}\n"


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'s' if count > 1 else ''}"


# -- jsonschema ----------------------------------------------------------------------------------------------


def by_jsonschema(value: Json, broken: Broken, unknown: Unknown) -> None:
    """Report what jsonschema finds in the way of the generated checker, which serves for unknown members
    alone."""
    for error in validator().iter_errors(value):
        pointer = "".join(f"/{escape(str(part))}" for part in error.absolute_path)
        _tell(error, pointer, broken)
    check(value, _ignore, unknown)


def _tell(error: jsonschema.ValidationError, pointer: str, broken: Broken) -> None:
    node: Any = error.schema
    value: Any = error.instance
    if error.validator == "required":
        for name in node["required"]:
            if name not in value:
                broken(f"{pointer}/{escape(name)}", REQUIRED, None)
    elif error.validator == "minItems":
        broken(pointer, too_few(node["minItems"]), value)
    else:
        broken(pointer, rule_of(node), value)


def _ignore(_pointer: str, _rule: str, _value: Json) -> None:
    """The schema's faults come from jsonschema."""


@functools.cache
def validator() -> Validator:
    """A jsonschema validator (draft 4) of config.json by our schema."""
    path = os.path.join(os.path.dirname(ocirun_spec.__file__), "config-schema.json")
    with open(path, encoding="utf-8") as file:
        return draft4()(json.load(file))


@functools.cache
def draft4() -> type[Validator]:
    """Draft 4, with patterns whose ``$`` is the end of the text, as in ECMA 262: Python's admits a newline
    after it."""
    extend: Any = importlib.import_module("jsonschema.validators").extend  # its stub has no types
    extended: type[Validator] = extend(jsonschema.Draft4Validator, {"pattern": _pattern})
    return extended


def _pattern(_: object, pattern: str, value: object, __: object) -> Iterator[jsonschema.ValidationError]:
    whole = pattern.removesuffix("$") + "\\Z" if pattern.endswith("$") else pattern
    if isinstance(value, str) and not re.search(whole, value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")
