"""Brings a network interface up without holding the loop, and again after it was lost."""

import asyncio

import network

_STEP_MS = 100
_STEPS = 150  # 15 s: a slow access point and a slow DHCP server
_TIMED_OUT = 116  # ETIMEDOUT


class _Nic:
    """`make()` gives the network interface; it is called at the first attempt."""

    def __init__(self, make):
        self._make = make
        self._nic = None
        self._ready = False

    def network_up(self) -> bool:
        return self._nic is not None and self._nic.isconnected()

    def _open(self, config: dict):
        """The interface, started and set up. Raises OSError; the next call then begins again."""
        if not self._ready:
            if config["hostname"]:
                network.hostname(config["hostname"])
            if self._nic is None:
                self._nic = self._make()
            self._nic.active(True)
            if config["address"]:
                self._nic.ipconfig(
                    addr4=(config["address"], config["netmask"]), gw4=config["gateway"]
                )
                if config["name_server"]:
                    network.ipconfig(dns=config["name_server"])
            self._ready = True
        return self._nic

    def _why_not(self) -> str:
        """Why the attempt cannot succeed any more, or ""."""
        return ""

    async def _wait(self, what: str):
        for _ in range(_STEPS):
            if self._nic.isconnected():
                return
            reason = self._why_not()
            if reason:
                raise OSError(_TIMED_OUT, reason)
            await asyncio.sleep_ms(_STEP_MS)
        raise OSError(_TIMED_OUT, what)


class Lan(_Nic):
    """A wired interface. It finds a cable that was pulled and put back by itself."""

    async def connect_network(self, config: dict):
        self._open(config)
        await self._wait("no cable, or no DHCP server answers")


class Wifi(_Nic):
    """The chip's own WiFi as a station."""

    def __init__(self):
        super().__init__(lambda: network.WLAN(network.WLAN.IF_STA))

    def _why_not(self) -> str:
        status = self._nic.status()
        if status == network.STAT_WRONG_PASSWORD:
            return "the access point refuses the password"
        if status == network.STAT_NO_AP_FOUND:
            return "no access point of that name in reach"
        return ""

    async def connect_network(self, config: dict):
        if not config["ssid"]:
            raise OSError(22, "network.ssid is not configured")
        nic = self._open(config)
        if nic.isconnected():
            return
        # Power saving delays what the broker sends by up to a second.
        nic.config(pm=nic.PM_NONE)
        # ESP32 refuses connect() while an earlier attempt still goes on.
        nic.disconnect()
        nic.connect(config["ssid"], config["password"] or None)
        try:
            await self._wait("no address: access point or DHCP server does not answer")
        except OSError:
            nic.disconnect()
            raise
