"""Tests by observation, as root, on the host: each runs the same against ocirun, runc and crun."""
