"""What the emulated board does, without its knowing: its frames, and the functions it is in.

An observer from outside costs the board nothing: the board's clock stands still while he looks.
Two things are told, each with the board's time:

* Events: a TCP segment with data that leaves or reaches the board.
* Samples: at fixed intervals, which Python functions are under way. A sample is what stands on the
  processor's stack.

Theory of the samples. MicroPython keeps a frame for each call of a Python function
(mp_code_state_t): the function, where in its bytecode it is, the top of its stack of values. A
plain function's frame lies on the C stack, a generator's on the heap with a pointer to it on the C
stack. So the stack is searched, from its top downwards, for what can be nothing but a frame: a
function object's address, a place within that function's bytecode, a stack of values of the right
size. Bytecode does not depend on where it lies, so its first bytes say which function of which
.mpy file it is: tools/emulator/tap_phases.py finds it there. An old frame may be left in a part of
the stack that nobody has written to since, so single samples can be wrong.

The layouts are those of MicroPython 1.27 with 32-bit words, the image that the emulator runs.
"""

from rp2040py.external.cyw43 import net

RAM = 0x2000_0000
RAM_END = 0x2004_2000
FLASH = 0x1000_0000
FLASH_END = 0x1020_0000
STACK = 8192
"""Bytes that are searched at most."""
CODE = 40
"""Bytes of a function that tell it from all others."""
LONGEST = 8192
"""Bytes of a function's bytecode, at most."""
# Places in mp_obj_fun_bc_t and mp_code_state_t.
BYTECODE = 12
IP, VALUES, SIZE, STATE = 4, 8, 12, 20
SP = 13  # the register


class Trace:
    """Watches a chip, and the network of its radio. `say(event, **members)` tells."""

    def __init__(self, mcu, say, radio=None):
        self._mcu = mcu
        self._say = say
        self._interval = 0
        self._alarm = mcu.clock.create_alarm(self._sample)
        self._codes: dict[bytes, int] = {}
        self._samples: list = []
        if radio:
            self._listen(radio.bus.nat_bridge)

    def _listen(self, bridge) -> None:
        leave, reach = bridge.handle_outbound_ethernet_frame, bridge._tcp._queue_ethernet_frame

        def left(frame: bytes) -> None:
            self._segment("left", frame)
            leave(frame)

        def reached(frame: bytes) -> None:
            self._segment("reached", frame)
            reach(frame)

        bridge.handle_outbound_ethernet_frame = left
        bridge._tcp._queue_ethernet_frame = reached

    def _segment(self, way: str, frame: bytes) -> None:
        eth = net.parse_ethernet(frame)
        ip = eth and eth.ethertype == net.ETHERTYPE_IPV4 and net.parse_ipv4(eth.payload)
        tcp = ip and ip.proto == net.IP_PROTO_TCP and net.parse_tcp(ip.payload)
        if tcp and tcp.payload:
            self._say(way, port=tcp.src_port, seq=tcp.seq, data=tcp.payload.hex())

    def start(self, interval_us: int) -> None:
        """Look every so many microseconds of the board's time."""
        self._interval = 1000 * interval_us
        self._codes.clear()
        self._samples.clear()
        self._alarm.schedule(self._interval)

    def stop(self) -> None:
        """Stop looking, and tell what was seen."""
        self._alarm.cancel()
        codes = [code.hex() for code in self._codes]
        self._say("samples", codes=codes, samples=self._samples)

    def _sample(self) -> None:
        self._alarm.schedule(self._interval)
        core = self._mcu.core
        frames = [] if core.waiting else self._frames(core.registers[SP])
        about = [self._mcu.clock.nanos / 1e9, int(core.waiting), core.ipsr, core.registers[15]]
        self._samples.append([*about, frames])

    def _frames(self, sp: int) -> list:
        """(number of the code, place in it) of each function under way, the innermost first."""
        end = min(sp + STACK, RAM_END)
        words = memoryview(bytes(self._mcu.sram[sp - RAM : end - RAM])).cast("I")
        found = []
        for i in range(len(words)):
            word = words[i]
            if not RAM < word < RAM_END or word & 3:
                continue
            frame = self._frame(sp + 4 * i) or self._frame(word)
            if frame and frame not in found:
                found.append(frame)
        return found

    def _word(self, address: int) -> int:
        at = address - RAM
        return int.from_bytes(self._mcu.sram[at : at + 4], "little")

    def _frame(self, at: int):
        """The frame at this address of the RAM, or None."""
        if not RAM < at < RAM_END - STATE:
            return None
        function, ip, values, size = (self._word(at + n) for n in (0, IP, VALUES, SIZE))
        size &= 0xFFFF
        if not RAM < function < RAM_END - 16 or function & 15 or not 0 < size < 200:
            return None
        if not at + STATE - 4 <= values <= at + STATE + 4 * size:
            return None
        code = self._word(function + BYTECODE)
        if not 0 <= ip - code < LONGEST or not FLASH < self._word(function) < FLASH_END:
            return None
        if RAM < code < RAM_END:
            data = bytes(self._mcu.sram[code - RAM : code - RAM + CODE])
        elif FLASH < code < FLASH_END:
            data = bytes(self._mcu.flash[code - FLASH : code - FLASH + CODE])
        else:
            return None
        return self._codes.setdefault(data, len(self._codes)), ip - code
