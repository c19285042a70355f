"""The air around the board: one access point, and behind it nothing but this machine's loopback.

The emulator's own network lets the board out to any host. It must not: the board's firmware is
under test, and its passwords are for nobody. So the one address that answers is the gateway's,
over TCP, and it means 127.0.0.1 here; there is no UDP but DHCP (no name look-up, no NTP).
"""

import asyncio

from rp2040py.external.cyw43 import Cyw43439

GATEWAY = "10.0.0.1"
SSID = "RP2040PY-GUEST"
"""The access point's name, which the emulator fixes; any password will do."""


class _NoDatagrams:
    def maybe_handle(self, _frame) -> bool:
        return True


class Loopback:
    """What the board can reach. `ports` maps a port that the board connects to to one here."""

    def __init__(self, ports: dict[int, int]):
        self.ports = ports
        self.refused: list[tuple[str, int]] = []
        """What the board tried to reach beside it."""

    async def connect(self, host: str, port: int):
        """As asyncio.open_connection. Raises OSError for every host but the gateway."""
        if host != GATEWAY:
            self.refused.append((host, port))
            raise ConnectionRefusedError(f"{host} is out of the emulated board's reach")
        return await asyncio.open_connection("127.0.0.1", self.ports.get(port, port))


def confine(radio: Cyw43439, loopback: Loopback) -> None:
    """Leave an attached radio nothing but the loopback."""
    bridge = radio.bus.nat_bridge
    if not hasattr(bridge._tcp, "_connect_fn") or not hasattr(bridge, "_udp"):
        raise SystemExit("this rp2040py is not 0.3.6: the board would reach other hosts")
    bridge._tcp._connect_fn = loopback.connect
    bridge._udp = _NoDatagrams()
