"""``ocirun list``."""

from __future__ import annotations

from ocirun.cli.output import write
from ocirun.cli.where import store_of
from ocirun.jsontext import dumps
from ocirun.lifecycle.state import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.lifecycle.state import State

_COLUMN, _GAP = 12, 3  # those of runc


def command(invocation: Invocation, _reporter: Reporter) -> int:
    """Prints the containers as a table, as JSON, or their ids alone."""
    found = containers(store_of(invocation))
    if invocation.switch("quiet"):
        write("".join(f"{each.id}\n" for each in found))
    elif invocation.text("format") == "json":
        write(as_json(found) + "\n")
    else:
        write(as_table(found))
    return 0


def as_json(found: Sequence[State]) -> str:
    """The states as an array; null when there are none, as scripts for runc expect."""
    return dumps([each.as_dict() for each in found] or None)


def as_table(found: Sequence[State]) -> str:
    """The table of runc: every column as wide as its widest cell and a gap, at least twelve."""
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [(each.id, str(each.pid), each.status, each.bundle, each.created, each.owner) for each in found]
    widths = [max(_COLUMN, *(len(row[column]) + _GAP for row in rows)) for column in range(5)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n"
        for row in rows
    )
