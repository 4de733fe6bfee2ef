"""Containers made in this process by the lifecycle itself, as a shim makes them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ocirun.lifecycle.create import CreateOptions, create
from ocirun.lifecycle.delete import delete
from ocirun.lifecycle.start import start
from ocirun.lifecycle.store import Store
from ocirun.lifecycle.undo import reap
from ocirun.waiting import Wait, drive, wait
from tests.host.runtimes import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    from ocirun.lifecycle.create import Container
    from tests.host.bundles import Bundle

    Waiter: TypeAlias = Callable[[Wait], tuple[int, ...]]


class Made:
    """Makes, starts, awaits and deletes containers; what a test leaves is deleted by ``clean_up``."""

    def __init__(self, root: Path) -> None:
        self.store = Store(str(root))
        self._made: list[Container] = []

    def create(self, bundle: Bundle, waiter: Waiter = wait, **options: object) -> Container:
        """As the lifecycle's create; ``options`` are those of CreateOptions."""
        asked = CreateOptions(str(bundle.write().path))
        for name, value in options.items():
            setattr(asked, name, value)
        made = drive(create(self.store, new_id(), asked), waiter)
        self._made.append(made)
        return made

    def start(self, container: Container, waiter: Waiter = wait) -> None:
        """As the lifecycle's start."""
        drive(start(self.store, container.id), waiter)

    def status(self, container: Container) -> int | None:
        """Waits for the end of init and reaps it: the exit status."""
        assert wait(Wait(reads=(container.pidfd,))), "it ended"
        return reap(container.pidfd)

    def delete(self, container: Container) -> None:
        """As the lifecycle's forced delete."""
        drive(delete(self.store, container.id, force=True))

    def clean_up(self) -> None:
        """Deletes all that is left and lets go of the pidfds."""
        for container in self._made:
            self.delete(container)
            os.close(container.pidfd)


def making(root: Path) -> Iterator[Made]:
    """The body of a fixture."""
    made = Made(root)
    yield made
    made.clean_up()
