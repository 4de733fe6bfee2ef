"""What the runtime is measured against: other runtimes as oracles, and the environments they run in."""
