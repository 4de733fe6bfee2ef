"""Whether a create ended in what a caller can work with: a container, or an error that says where."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, cast

from ocirun.error_codes import CODES
from ocirun.errors import ConfigError, OcirunError
from ocirun.lifecycle.create import CreateOptions, create
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.undo import reap
from ocirun.waiting import drive
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocirun.lifecycle.store import Store

Json = Any
KNOWN = frozenset(code.name for code in CODES)


def attempt(store: Store, bundle: Path) -> OcirunError | None:
    """Creates a container of ``bundle`` in this process and deletes it: the error, or None when it was
    created."""
    ident = new_id()
    try:
        made = drive(create(store, ident, CreateOptions(str(bundle), foreground=True)))
    except OcirunError as error:
        return error
    finally:
        if store.ids():
            drive(delete(store, ident, force=True))
    reap(made.pidfd)
    os.close(made.pidfd)
    if made.console >= 0:
        os.close(made.console)
    return None


def complaints(error: OcirunError, source: bytes) -> list[str]:
    """What a caller could not work with in ``error``, which the document ``source`` has earned."""
    found = [] if error.code in KNOWN and error.code != "internal" else [f"code {error.code}"]
    if not str(error):
        found.append("it says nothing")
    if isinstance(error, ConfigError):
        places = [(fault.pointer, fault.line, fault.column) for fault in error.faults]
        found += [] if places else ["it has no fault"]
    else:
        places = [(error.pointer, error.line, error.column)]
    return found + wrong_places(places, source)


def wrong_places(places: Sequence[tuple[str, int, int]], source: bytes) -> list[str]:
    """Those of ``places``, each pointer, line and column, that are not in the document ``source``."""
    found: list[str] = []
    lines = source.decode("utf-8", "replace").split("\n")
    document = _value(source)
    for pointer, line, column in places:
        if pointer.startswith("/") and document is not None and not _leads_somewhere(document, pointer):
            found.append(f"{pointer} leads nowhere")
        if pointer.startswith("/") and document is not None and not line:
            found.append(f"{pointer} has no line")
        if line and not (1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1):
            found.append(f"{pointer}: {line}:{column} is outside")
    return found


def _value(source: bytes) -> Json:
    """What the document holds; None where it is no JSON."""
    try:
        return json.loads(source)
    except (ValueError, RecursionError):
        return None


def _leads_somewhere(document: Json, pointer: str) -> bool:
    """Whether ``pointer`` names a member, or one that is absent from an object that is there."""
    value = document
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for number, part in enumerate(parts):
        if isinstance(value, list) and part.isdigit() and int(part) < len(cast("list[object]", value)):
            value = cast("list[object]", value)[int(part)]
        elif isinstance(value, dict) and part in value:
            value = cast("dict[str, object]", value)[part]
        else:
            return isinstance(value, dict) and number >= len(parts) - 2
    return True
