"""What every test shares: the checkout on the import path, for `conformance` and the tests' own modules.

`--import-mode=importlib` leaves sys.path alone, and neither package is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

_CHECKOUT = str(Path(__file__).parents[1])
if _CHECKOUT not in sys.path:
    sys.path.insert(0, _CHECKOUT)
