"""criu, the program that takes and restores checkpoints: what it is asked, and the conversation with it.

Loaded by ``checkpoint`` and ``restore`` alone.
"""
