"""ocirun: an OCI low-level container runtime that plans before it acts.

Python decides, a small static helper acts, and between them lies a plan (docs/architecture.md).
"""

__version__ = "0.1.0"

#: The newest version of the OCI runtime specification whose config.json and state.json we speak.
SPEC_VERSION = "1.3.0"
