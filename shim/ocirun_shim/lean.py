"""protobuf without the parts of it that do not run.

google.protobuf imports its implementation in Python, with the text format, pickle and their like, also where
the one in C does all the work; and datetime, calendar and locale for methods of the well-known types that
nobody here calls.  Together they are nearly half of what it costs in memory.  The zygote calls ``spare``
before anything imports google.protobuf.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

_PURE_PYTHON = "google.protobuf.internal.python_message"
_WELL_KNOWN = "google.protobuf.internal.well_known_types"
_IMPLEMENTATION = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"


def spare() -> bool:
    """Puts empty modules where protobuf would import what its C implementation never calls.

    Gives whether it did: not when protobuf is loaded already, and not where it runs in Python.  Afterwards
    Timestamp, Any and the like have their fields, but no ToDatetime, Pack or other methods of their own.
    """
    if _PURE_PYTHON in sys.modules or _WELL_KNOWN in sys.modules:
        return False
    if os.environ.get(_IMPLEMENTATION, "upb") != "upb":
        return False
    try:
        __import__("google._upb._message")
    except ImportError:
        return False
    sys.modules[_PURE_PYTHON] = ModuleType(_PURE_PYTHON)
    well_known = sys.modules[_WELL_KNOWN] = ModuleType(_WELL_KNOWN)
    # what the C implementation looks up for each class it makes: methods to add, by the name of the message
    well_known.__dict__["WKTBASES"] = {}
    return True
