"""What the conformance suite uses of pyroute2, which brings no types."""

from typing import Any, Self

class NetlinkError(Exception):
    code: int

class IPRoute:
    def __enter__(self) -> Self: ...
    def __exit__(self, *args: object) -> None: ...
    def link(
        self,
        command: str,
        *,
        index: int = ...,
        ifname: str = ...,
        kind: str = ...,
        peer: dict[str, str] = ...,
        state: str = ...,
    ) -> object: ...
    def link_lookup(self, *, ifname: str) -> list[int]: ...
    def addr(self, command: str, *, index: int, address: str, prefixlen: int) -> object: ...
    def get_routes(self, *, family: int) -> list[dict[str, Any]]: ...

class NetNS(IPRoute):
    def __init__(self, netns: str) -> None: ...
