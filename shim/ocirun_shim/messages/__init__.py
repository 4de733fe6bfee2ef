"""The protobuf messages of containerd and ttrpc, generated from ../proto by ocirun_shim.generate."""
