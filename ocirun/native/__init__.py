"""The native programs, the launcher and the helper, and what builds them (build.py, a hook of hatchling)."""
