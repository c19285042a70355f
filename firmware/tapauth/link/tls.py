"""TLS for the link. The server is always verified, and what is missing is never done without."""

import binascii
import ssl

from tapauth.compat import unix_time
from tapauth.link.framing import ProtocolError
from tapauth.wallclock import EARLIEST

_BEGIN = b"-----BEGIN "
_DASHES = b"-----"


def decoded(path: str) -> list:
    """The DER contents of a file: itself, or each block of a PEM file.

    Done here because not every build of MicroPython reads PEM. Raises OSError or ValueError.
    """
    with open(path, "rb") as file:
        data = file.read()
    if _BEGIN not in data:
        return [data]
    found = []
    for block in data.split(_BEGIN)[1:]:
        # name-----base64-----END name-----
        found.append(binascii.a2b_base64(block.split(_DASHES)[1]))
    return found


def context(settings: dict):
    """An SSLContext for the "mqtt.tls" object of the configuration. Raises ProtocolError.

    On CPython a client's certificate is not supported: it would have to be a PEM file.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    key = "ca_file"
    try:
        for authority in decoded(settings["ca_file"]):
            made.load_verify_locations(cadata=authority)
        # MicroPython's ssl module starts with no verification at all.
        made.verify_mode = ssl.CERT_REQUIRED
        if settings["cert_file"]:
            key = "cert_file"
            certificate = decoded(settings["cert_file"])[0]
            made.load_cert_chain(certificate, decoded(settings["key_file"])[-1])
        return made
    except (OSError, ValueError, TypeError, IndexError) as error:
        reason = f"mqtt.tls.{key} cannot be used ({error})"
    raise ProtocolError(reason)


def clock_is_set() -> bool:
    """Whether the system's clock can tell if a certificate is valid today."""
    return unix_time() >= EARLIEST
