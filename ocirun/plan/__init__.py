"""The plan: its verbs, its steps, and what compiles, judges and shows it."""
