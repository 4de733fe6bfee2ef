"""The helper by itself: its parser under sanitizers and fuzzing, and whole plans that it runs as root."""
