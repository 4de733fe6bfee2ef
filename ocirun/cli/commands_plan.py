"""``ocirun plan``."""

from __future__ import annotations

import os

from ocirun import config, host
from ocirun.cli.output import write
from ocirun.cli.where import bundle_of, manager_of, store_of
from ocirun.errors import ConfigError, HostError, OcirunError, StateError
from ocirun.jsontext import dumps
from ocirun.lifecycle.caller import filter_of
from ocirun.lifecycle.store import check_id
from ocirun.plan.lint import lint
from ocirun.plan.show import as_json, show
from ocirun.planner import Options, plan
from ocirun.planner.draft import DISABLED, SYSTEMD
from ocirun.planner.seccomp import RAW_POINTER
from ocirun.waiting import drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.cli.parse import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.config import Document
    from ocirun.plan.model import Plan


def command(invocation: Invocation, reporter: Reporter) -> int:
    """Prints the plan that ``run`` would carry out; touches nothing.

    Raises ConfigError and HostError as ``create`` does, OcirunError for a plan that breaks a law.
    """
    bundle = bundle_of(invocation)
    document = config.load(os.path.join(bundle, "config.json"))
    options = _options(invocation, bundle)
    options.seccomp = drive(filter_of(document.config, store_of(invocation).root, keep=False))
    manager = manager_of(invocation)
    options.no_cgroup = manager == DISABLED
    if manager == SYSTEMD:
        from ocirun.lifecycle.systemd import look

        options.systemd = drive(look())
    planned = _planned(document, options, invocation.text("rootless"))
    for fault in (*document.warnings, *planned.warnings):
        document.locate(fault)
        reporter.warn(fault)
    as_text = invocation.text("format") == "text"
    listed = _listed(planned)
    write(show(planned) + "".join(listed) if as_text else dumps(as_json(planned), indent=2) + "\n")
    broken = lint(planned, document.config)
    if broken:
        raise OcirunError(f"the plan breaks its laws: {'; '.join(broken)}", hint="please report this")
    return 0


def _listed(planned: Plan) -> Iterator[str]:
    """The lines of a filter that the config has brought ready made: its bytes tell nobody what it does."""
    for step in planned.steps:
        program = step.args[0] if step.verb == "load_seccomp" and step.pointer == RAW_POINTER else None
        if isinstance(program, bytes):
            from ocirun.seccomp.listing import listing

            yield f"\n{RAW_POINTER}\n"
            yield from (f"{line}\n" for line in listing(program))


def _planned(document: Document, options: Options, rootless: str) -> Plan:
    options.cgroup_needed = rootless == "false"
    try:
        return plan(
            document.config,
            host.gather_for(document.config, rootless=rootless == "true"),
            options,
        )
    except (ConfigError, HostError) as error:
        document.locate(error)
        raise


def _options(invocation: Invocation, bundle: str) -> Options:
    container = invocation.arguments[0] if invocation.arguments else _name_of(bundle)
    directory = store_of(invocation).directory(container)
    return Options(container, bundle=bundle, state_directory=directory, foreground_terminal=True)


def _name_of(bundle: str) -> str:
    """The name of the directory, where that can be an id."""
    name = os.path.basename(bundle)
    try:
        check_id(name)
    except StateError:
        return "container"
    return name
