"""The command line: python -m conformance.vm [OPTIONS] -- COMMAND."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.vm import project
from conformance.vm.image import MachineError
from conformance.vm.job import OUT, Job
from conformance.vm.machine import DIED, MEMORY, PROCESSORS, TIMED_OUT, Machine

_STATUSES = f"The exit status is COMMAND's; {TIMED_OUT} after a timeout, {DIED} if the machine went first."


def main() -> int:
    """Runs a command in a guest and gives its status."""
    wanted = _parser().parse_args()
    machine = Machine(
        full=wanted.full,
        systemd=wanted.systemd,
        selinux=wanted.selinux,
        memory=wanted.memory,
        processors=wanted.processors,
    )
    try:
        outcome = machine.run(_job(wanted), wanted.timeout)
    except MachineError as error:
        sys.stderr.write(f"{error}\n")
        return DIED
    if wanted.verbose or outcome.status in (TIMED_OUT, DIED):
        sys.stderr.write(outcome.console)
    return outcome.status


def _job(wanted: argparse.Namespace) -> Job:
    if wanted.project:
        return project.job(*wanted.command, out=wanted.out)
    return Job(wanted.command, Path.cwd(), out=wanted.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.vm",
        description="Runs a command as root in a throwaway machine with pure cgroup v2, in a copy of the "
        "current directory, without network.  " + _STATUSES,
    )
    parser.add_argument("--full", action="store_true", help="emulate a PC with a stock kernel")
    parser.add_argument("--systemd", action="store_true", help="boot systemd, COMMAND is a service")
    parser.add_argument("--selinux", action="store_true", help="boot with SELinux, which has no policy")
    parser.add_argument("--project", action="store_true", help="in this checkout, with ocirun in the PATH")
    parser.add_argument("--memory", type=int, default=MEMORY, metavar="MIB")
    parser.add_argument("--processors", type=int, default=PROCESSORS, help="with --full")
    parser.add_argument("--timeout", type=float, metavar="SECONDS")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"what COMMAND leaves in {OUT} goes to DIR")
    parser.add_argument("--verbose", action="store_true", help="show what the kernel said")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser


if __name__ == "__main__":
    sys.exit(main())
