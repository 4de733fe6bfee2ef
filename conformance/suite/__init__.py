"""The official validation suite, validation/ of opencontainers/runtime-tools, run against any runtime.

Nothing of it is committed: its source comes from Debian, or from a checkout, and is built into the cache of
the peers.  Each of its programs makes bundles, calls the runtime on them and says what it found (TAP).

``python -m conformance.suite [PROGRAM...]`` runs it with ocirun, runc and crun, and prints what each says.

build     has the programs, builds them when needed; ``tap/`` stands in for a library that Debian has not
session   runs programs where it is: in a private view of this host, or in the guest
verdict   what a program that has ended means
places    the two places where sessions run
reasons   why ocirun misses what it misses, and who is right (reasons.toml)
report    the page docs/validation.md, made of docs/validation.json
"""
