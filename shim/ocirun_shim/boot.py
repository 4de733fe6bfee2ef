"""The first Python of the shim where no zygote took the request: finds the packages without site, calls main.

The program containerd-shim-ocirun-v2 runs it as ``python3 -I -S boot.py ARGUMENTS`` (ocirun/boot.py does the
same for ``ocirun``).
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

# The launcher held SIGINT back, which must not hit the interpreter while it starts.
_signal.signal(2, _signal.SIG_DFL)
_signal.pthread_sigmask(_signal.SIG_SETMASK, ())

_ROOT = __file__.rpartition("/")[0].rpartition("/")[0]

# After the standard library: nothing that lies beside us may stand in for one of its modules.
sys.path.append(_ROOT)
if not _ROOT.endswith("-packages"):  # a checkout: our packages have rooms of their own
    _CHECKOUT = _ROOT.rpartition("/")[0]
    _LIB = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    sys.path += [_CHECKOUT, f"{_CHECKOUT}/spec", f"{sys.executable.rpartition('/bin/')[0]}/{_LIB}"]

from ocirun_shim.bootstrap import main  # noqa: E402 - the path comes first

main()
