"""The other end of esptool's line: an ESP32 in its ROM's bootloader, with a flash, behind a pty.

It knows the serial protocol as far as erasing and writing a flash needs it:
https://docs.espressif.com/projects/esptool/en/latest/esp32/advanced-topics/serial-protocol.html
The program that esptool loads into a chip's RAM is not run; its commands are carried out here.
"""

import hashlib
import os
import pty
import struct
import threading
import tty
import zlib

END, ESCAPE = b"\xc0", b"\xdb"
FLASH_ID = 0x164020  # a serial flash of 4 MB
# By the chip's number: the word that esptool tells chips apart by, where it says its flash's id.
CHIPS = {0: (0x00F01D83, 0x3FF42080), 5: (0, 0x60002058), 9: (0, 0x60002058)}


class EspRom:
    """A chip at `port`. A context. `flash` is what the flash holds; `steps` names what was done.

    With `is_mute` it does not answer, as a chip that is not in its bootloader.
    """

    def __init__(self, chip: int, flash_bytes: int = 4 << 20):
        self._chip = chip
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self.flash = bytearray(os.urandom(4096) + bytes(flash_bytes - 4096))
        self.steps: list[str] = []
        self.is_mute = False
        self._in_ram = False
        self._unpacker = zlib.decompressobj()
        self._at = 0

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        os.close(self._slave)
        os.close(self._master)

    def _serve(self) -> None:
        waiting = b""
        try:
            while data := os.read(self._master, 4096):
                *packets, waiting = (waiting + data).split(END)
                for packet in packets:
                    packet = packet.replace(b"\xdb\xdc", END).replace(b"\xdb\xdd", ESCAPE)
                    if len(packet) >= 8 and packet[0] == 0 and not self.is_mute:
                        self._obey(packet[1], packet[8:])
        except OSError:
            pass  # the line was closed

    def _send(self, packet: bytes) -> None:
        packet = packet.replace(ESCAPE, b"\xdb\xdd").replace(END, b"\xdb\xdc")
        os.write(self._master, END + packet + END)

    def _answer(self, command: int, value: int = 0, data: bytes = b"", error: int = 0) -> None:
        status = bytes((1 if error else 0, error))
        if not self._in_ram:
            status += bytes(2)
        head = struct.pack("<BBHI", 1, command, len(data) + len(status), value)
        self._send(head + data + status)

    def _obey(self, command: int, data: bytes) -> None:
        magic, flash_id_at = CHIPS[self._chip]
        words = struct.unpack(f"<{min(len(data), 16) // 4}I", data[: min(len(data), 16) // 4 * 4])
        if command == 0x08:  # SYNC, after a reset by lines that a pty does not have
            self._in_ram = False
            for _ in range(8):
                self._answer(command, value=0x20120707)
        elif command == 0x0A:  # READ_REG
            known = {0x40001000: magic, flash_id_at: FLASH_ID}
            self._answer(command, value=known.get(words[0], 0))
        elif command == 0x14:  # GET_SECURITY_INFO: the first chips do not know it
            if self._chip:
                self._answer(command, data=bytes(12) + struct.pack("<II", self._chip, 0))
            else:
                self._answer(command, error=5)
        elif command == 0x06:  # MEM_END: the program in RAM starts, and says so
            self._answer(command)
            self._in_ram = True
            self._send(b"OHAI")
        elif command == 0xD0:  # ERASE_FLASH
            self.steps.append("erase")
            self.flash[:] = b"\xff" * len(self.flash)
            self._answer(command)
        elif command in (0x02, 0x10):  # FLASH_BEGIN, FLASH_DEFL_BEGIN
            self._at = words[3]
            self._unpacker = zlib.decompressobj()
            self.steps.append(f"write at {self._at:#x}")
            self._answer(command)
        elif command in (0x03, 0x11):  # FLASH_DATA, FLASH_DEFL_DATA
            piece = data[16:] if command == 0x03 else self._unpacker.decompress(data[16:])
            self.flash[self._at : self._at + len(piece)] = piece
            self._at += len(piece)
            self._answer(command)
        elif command == 0x13:  # SPI_FLASH_MD5
            self.steps.append("check")
            what = self.flash[words[0] : words[0] + words[1]]
            self._answer(command, data=hashlib.md5(what).digest())
        else:  # setting up, loading into RAM
            self._answer(command)
