"""The command line: runs the suite here and in the guest, prints what came of it, and writes the page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.peers import PeerError
from conformance.suite import report
from conformance.suite.build import suite
from conformance.suite.places import ONLY_FULL, RUNTIMES, SessionError, Wish, in_guest, on_host

if TYPE_CHECKING:
    from conformance.suite.session import Told


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.suite", description=__doc__)
    parser.add_argument(
        "--checkout", type=Path, help="a checkout of runtime-tools instead of Debian's source"
    )
    parser.add_argument("--runtime", action="append", help=f"by default each of {', '.join(RUNTIMES)}")
    parser.add_argument("--host", action="store_true", help="run them on this host alone")
    parser.add_argument(
        "--write", action="store_true", help="write docs/validation.*; then all run everywhere"
    )
    parser.add_argument("program", nargs="*", help="by default each of the suite")
    return parser.parse_args()


def _run(wanted: argparse.Namespace) -> report.Found:
    found = suite(wanted.checkout)
    wish = Wish(found, wanted.runtime or RUNTIMES, wanted.program)
    places: dict[str, Told] = {report.HOST: on_host(wish)}
    if wanted.write or not wanted.host:
        places[report.GUEST] = in_guest(wish)
    if wanted.write:
        places[report.FULL] = in_guest(Wish(found, programs=ONLY_FULL), full=True)
    return {"suite": found.version, "places": places}


def main() -> int:
    """Gives the exit status: 0 when everything ran, whatever came of it."""
    wanted = _arguments()
    if wanted.write and (wanted.program or wanted.runtime):
        sys.stderr.write("--write wants every program with every runtime\n")
        return 2
    try:
        found = _run(wanted)
    except (PeerError, SessionError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if wanted.write:
        text = json.dumps(found, indent=1, sort_keys=True) + "\n"
        report.FILE.write_text(text)
        report.PAGE.write_text(report.render(text))
    else:
        sys.stdout.writelines(f"{line}\n" for line in report.lines(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
