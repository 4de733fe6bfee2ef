"""The containerd shim of ocirun (docs/architecture.md); this version has none of it yet."""
