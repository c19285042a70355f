"""WebSocket (RFC 6455) after its handshake: text messages over a pipe.Pipe.

How it works: receive() reads frames until a message is whole. A message may come in several
frames, the first with its opcode and the others as continuations, and control frames (Close,
Ping, Pong) may stand between those. A Ping is answered on the way. A breach of the protocol
raises WebSocketError with the code that tells the peer so in a Close frame; a Close of the peer
raises WebSocketError too, with the code to answer. After that the stream is of no more use:
close() says the code, and the connection ends.

microdot, which makes the handshake, has a reader of frames too, but one that takes no message in
several frames, tells no peer why it ends, answers no Close, and takes what RFC 6455 forbids.
"""

from tapauth.compat import const
from tapauth.json_in import decode

_CONT = const(0)
_TEXT = const(1)
_BINARY = const(2)
_CLOSE = const(8)
_PING = const(9)
_PONG = const(10)

_BROKEN = const(1002)
_NOT_TEXT = const(1003)
_BAD_TEXT = const(1007)
_TOO_BIG = const(1009)

_MAX_MESSAGE = const(4096)  # bytes, in all frames of it
_MAX_CONTROL = const(125)
_PIECE = const(256)  # bytes unmasked in one step; a multiple of the mask's four


class WebSocketError(Exception):
    """The connection ends. Arguments: the code for the Close frame, 0 for a frame without; and
    whether that frame answers the peer's own, after which nothing comes.
    """


class WebSocket:
    """The server's side of a WebSocket; `pipe` is a pipe.Pipe behind the handshake."""

    def __init__(self, pipe):
        self._pipe = pipe

    async def receive(self, heard) -> str:
        """The next message; `heard()` is awaited for each frame that has come, of any kind.

        Raises WebSocketError, OSError, MemoryError.
        """
        message = None
        while True:
            final, opcode, data = await self._frame(len(message or b""))
            await heard()
            if opcode >= _CLOSE:
                await self._control(opcode, data)
                continue
            if (opcode == _CONT) != (message is not None):
                raise WebSocketError(_BROKEN, False)
            message = data if message is None else message + data
            if final:
                return text_of(bytes(message))

    async def _frame(self, taken: int) -> tuple:
        """The next frame: (whether that ends its message, opcode, data); `taken` bytes of the
        message came before.
        """
        read = self._pipe.readexactly
        first, second = await read(2)
        final, opcode, length = first >> 7, first & 15, second & 127
        if opcode == _BINARY:
            raise WebSocketError(_NOT_TEXT, False)
        # Nothing was agreed on that gives the three reserved bits a meaning.
        if first & 0x70 or not second >> 7 or opcode not in (_CONT, _TEXT, _CLOSE, _PING, _PONG):
            raise WebSocketError(_BROKEN, False)
        if opcode >= _CLOSE and (length > _MAX_CONTROL or not final):
            raise WebSocketError(_BROKEN, False)
        if length > _MAX_CONTROL:
            size = 2 if length == 126 else 8
            length = int.from_bytes(await read(size), "big")
            if length >> 63 or length <= (_MAX_CONTROL if size == 2 else 0xFFFF):
                raise WebSocketError(_BROKEN, False)
        if taken + length > _MAX_MESSAGE and opcode < _CLOSE:
            raise WebSocketError(_TOO_BIG, False)
        mask = await read(4) * (_PIECE // 4)
        data = bytearray()
        while len(data) < length:
            data.extend(unmasked(await read(min(length - len(data), _PIECE)), mask))
        return final, opcode, data

    async def _control(self, opcode: int, data) -> None:
        if opcode == _PING:
            await self._send(_PONG, data)
        elif opcode == _CLOSE:
            raise WebSocketError(_code_to_answer(data), True)

    async def send(self, text: str) -> None:
        """Send a message, as fast as the peer takes it. Raises OSError, MemoryError."""
        await self._send(_TEXT, text.encode())

    async def ping(self) -> None:
        """Ask for a sign of life. Raises OSError."""
        await self._send(_PING, b"")

    async def close(self, code: int) -> None:
        """Say that nothing more is sent, and why. Raises OSError."""
        await self._send(_CLOSE, code.to_bytes(2, "big") if code else b"")

    async def _send(self, opcode: int, data) -> None:
        size = len(data)
        if size <= _MAX_CONTROL:
            head = bytes((0x80 | opcode, size))
        elif size <= 0xFFFF:
            head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
        await self._pipe.awrite(head + data)


def unmasked(piece: bytes, mask: bytes) -> bytes:
    """A piece of a frame's data; `mask` is the frame's, repeated to at least its length."""
    size = len(piece)
    # One long number each: byte by byte it would keep the board busy for too long.
    plain = int.from_bytes(piece, "little") ^ int.from_bytes(mask[:size], "little")
    return plain.to_bytes(size, "little")


def text_of(data: bytes) -> str:
    """The text of strict UTF-8. Raises WebSocketError."""
    try:
        return decode(data)
    except ValueError:
        raise WebSocketError(_BAD_TEXT, False)


def _code_to_answer(data) -> int:
    """The code for the answer to a Close with this data: its own, or what is wrong with it."""
    if not data:
        return 0
    code = int.from_bytes(data[:2], "big")
    # 1004 to 1006 and 1015 are for use inside programs only.
    known = 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    if len(data) < 2 or not known:
        return _BROKEN
    try:
        text_of(bytes(data[2:]))
    except WebSocketError:
        return _BAD_TEXT
    return code
