"""The life of a container: create, start, kill, delete, run and what can be seen of it.

Everything that may wait is a generator that yields ocirun.waiting.Wait; nothing here prints or exits.
"""
