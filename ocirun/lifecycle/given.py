"""Checks a part of a config that came without the rest."""

from __future__ import annotations

from ocirun import SPEC_VERSION
from ocirun import config as reading
from ocirun.errors import ConfigError, Fault
from ocirun.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocirun_spec.types import Config


def checked(members: Mapping[str, object], name: str) -> Config:
    """A config with nothing but these members, from the file ``name``; raises ConfigError with every fault of
    them."""
    whole = {"ociVersion": SPEC_VERSION, "root": {"path": "/"}, **members}
    try:
        return reading.read(dumps(whole).encode("utf-8", "surrogatepass"), name).config
    except ConfigError as error:
        # lines and columns would be those of our own text
        faults = [Fault(one.pointer, one.rule, value=one.value, hint=one.hint) for one in error.faults]
        raise ConfigError(faults, name=name, code=error.code) from None
