"""What is written to /proc: kernel parameters, the score of the OOM killer, the profile of AppArmor.

Only configs that ask for one of them load this.
"""

from __future__ import annotations

from ocirun.config.sysctl_rules import split
from ocirun.plan import steps
from ocirun.plan.model import LIFECYCLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.model import Step
    from ocirun.planner.draft import Draft


def open_proc() -> Sequence[Step]:
    """The procfs that all is written through, made before the namespaces of the container are entered."""
    return (steps.open_proc(proc="proc", pointer="", why=LIFECYCLE),)


def oom_score(draft: Draft) -> Sequence[Step]:
    """``process.oomScoreAdj``: stage takes the score and init inherits it, so it is never without; absent, it
    is the caller's (config.md, Linux Process)."""
    score = draft.process.get("oomScoreAdj")
    if score is None:
        return ()
    return (steps.set_oom_score(proc="proc", score=str(score), pointer="/process/oomScoreAdj"),)


def apparmor(draft: Draft) -> Sequence[Step]:
    """``process.apparmorProfile``: for the program only, as init itself stays what the caller is."""
    profile = draft.process.get("apparmorProfile", "")
    return [steps.set_apparmor(proc="proc", change=f"exec {profile}", pointer="/process/apparmorProfile")]


def sysctl(draft: Draft) -> Sequence[Step]:
    """``linux.sysctl``: by init, whose namespaces the parameters belong to, in the order of the config."""
    return [
        steps.set_sysctl(
            proc="proc",
            path="/".join(["sys", *split(name)]),
            value=value,
            pointer=f"/linux/sysctl/{name.replace('~', '~0').replace('/', '~1')}",
        )
        for name, value in draft.linux.get("sysctl", {}).items()
    ]
