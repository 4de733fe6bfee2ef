"""Cgroup v2: the files driver and the device program."""
