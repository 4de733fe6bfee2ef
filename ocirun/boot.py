"""The first Python of every command: finds the packages without site, and calls main.

The launcher runs it as ``python3 -I -S boot.py ARGUMENTS``.  Without site there is no site-packages on
sys.path, and reading what site would read costs more than ``create``; so the one or three directories are
named here.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

# Until something was made a Ctrl-C ends us without a word, not with a traceback of half an import.  The
# launcher holds it back until here.
if _signal.getsignal(2) is _signal.default_int_handler:
    _signal.signal(2, _signal.SIG_DFL)
_signal.pthread_sigmask(_signal.SIG_SETMASK, ())

_ROOT = __file__.rpartition("/")[0].rpartition("/")[0]

# After the standard library: nothing that lies beside us may stand in for one of its modules.
sys.path.append(_ROOT)
if not _ROOT.endswith("-packages"):  # a checkout, where each package has a room of its own
    sys.path += [f"{_ROOT}/spec", f"{_ROOT}/shim"]

from ocirun.cli.main import main  # noqa: E402 - the path comes first

main()
