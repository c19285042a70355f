"""TLS for the link. The server is always verified, and what is missing is never done without."""

import ssl

from tapauth.compat import const, unix_time
from tapauth.link.framing import ProtocolError

# 2025-01-01. A board whose clock was never set starts in 2000 (ESP32) or 2021 (RP2040).
_CLOCK_FLOOR = const(1_735_689_600)


def context(settings: dict):
    """An SSLContext for the "mqtt.tls" object of the configuration. Raises ProtocolError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    key = "ca_file"
    try:
        made.load_verify_locations(settings["ca_file"])
        # MicroPython's ssl module starts with no verification at all.
        made.verify_mode = ssl.CERT_REQUIRED
        if settings["cert_file"]:
            key = "cert_file"
            made.load_cert_chain(settings["cert_file"], settings["key_file"])
    except (OSError, ValueError) as error:
        raise ProtocolError(f"mqtt.tls.{key} cannot be used ({error})") from error
    return made


def clock_is_set() -> bool:
    """Whether the system's clock can tell if a certificate is valid today."""
    return unix_time() >= _CLOCK_FLOOR
