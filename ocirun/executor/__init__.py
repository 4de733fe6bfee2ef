"""Runs plans: encodes them, starts the sealed helper, does the host's own steps and explains what failed."""
