"""The ttrpc protocol without sockets: bytes in, calls or answers out, and the reverse.

A frame is ten bytes of header and up to 4 MiB of data (frames).  A server (server) takes the calls of a
client, and answers each once, in any order; a client (client) numbers its calls and tells their answers.  All
calls are unary: containerd's Task and Events services have no others.  Source: PROTOCOL.md of
github.com/containerd/ttrpc.
"""
