"""The module ``encodings`` of the core interpreter: imported when UTF-8 fails, or another codec is named.

The real one takes as long as all of ``state``.  These codecs are those of C.
"""

from __future__ import annotations

import _codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def search(name: str) -> Any:  # noqa: ANN401 - a tuple of four, which C takes for a codecs.CodecInfo
    """Encoder and decoder of a codec by its normalised name, None for one we have not (codecs.register)."""
    encoder = getattr(_codecs, f"{name}_encode", None)
    return encoder and (encoder, getattr(_codecs, f"{name}_decode"), None, None)


_codecs.register(search)
