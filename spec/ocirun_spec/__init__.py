"""What the OCI runtime specification says, once: our schemas, and what is generated from them."""
