"""`make bench-shim`: containerd's calls to our shim and to containerd-shim-runc-v2, timed side by side."""
