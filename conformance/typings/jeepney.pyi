from collections.abc import Sequence
from enum import Enum

class MessageType(Enum):
    method_call = 1
    method_return = 2
    error = 3
    signal = 4

class HeaderFields(Enum):
    path = 1
    interface = 2
    member = 3
    error_name = 4
    reply_serial = 5
    destination = 6
    sender = 7
    signature = 8
    unix_fds = 9

class Header:
    message_type: MessageType
    fields: dict[HeaderFields, object]

class Message:
    header: Header
    body: tuple[object, ...]
    def serialise(self, serial: int | None = None) -> bytes: ...

class Parser:
    def add_data(self, data: bytes, fds: Sequence[int] = ()) -> None: ...
    def get_next_message(self) -> Message | None: ...

class DBusAddress:
    def __init__(
        self, object_path: str, bus_name: str | None = None, interface: str | None = None
    ) -> None: ...

def new_method_call(
    remote_obj: DBusAddress, method: str, signature: str | None = None, body: tuple[object, ...] = ()
) -> Message: ...
def new_method_return(
    parent_msg: Message, signature: str | None = None, body: tuple[object, ...] = ()
) -> Message: ...
def new_signal(
    emitter: DBusAddress, signal: str, signature: str | None = None, body: tuple[object, ...] = ()
) -> Message: ...
def new_error(
    parent: Message, error_name: str, signature: str | None = None, body: tuple[object, ...] = ()
) -> Message: ...
