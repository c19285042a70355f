"""Certificates and keys for a board: checked here, where an error can still be mended."""

import ssl
import tempfile
from pathlib import Path

from tapauth.link.tls import decoded

# What a private key in DER may be, as PEM names it.
_KEYS = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")


def authority(path: str) -> bytes:
    """The contents of a file with the certificates of authorities, PEM or DER.

    Raises ValueError, in words, when it holds none.
    """
    if not path:
        raise ValueError("a file is needed: without it nothing can be checked")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    try:
        for certificate in decoded(path):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except (OSError, ValueError, IndexError):
        raise ValueError(f"{path} holds no certificate, neither PEM nor DER") from None
    return data


def pair(certificate: str, key: str) -> tuple[bytes, bytes]:
    """The certificate and its private key as DER. Raises ValueError when they are not a pair."""
    authority(certificate)
    try:
        text = Path(key).read_bytes()
        if b"ENCRYPTED" in text:
            raise ValueError(
                f"{key} is encrypted, which no board can read: "
                f"openssl pkey -in {key} -out plain.pem"
            )
        own, secret = decoded(certificate)[0], decoded(key)[-1]
    except OSError as error:
        raise ValueError(f"{key}: {error.strerror}") from error
    except IndexError:
        raise ValueError(f"{key} holds no private key, neither PEM nor DER") from None
    if not any(_fit(own, secret, name) for name in _KEYS):
        raise ValueError(f"{key} is not the private key of {certificate}")
    return own, secret


def _fit(certificate: bytes, key: bytes, name: str) -> bool:
    pem = ssl.DER_cert_to_PEM_cert(certificate)
    pem += ssl.DER_cert_to_PEM_cert(key).replace("CERTIFICATE", name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.touch(mode=0o600)
        path.write_text(pem)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
            return True
        except (OSError, ValueError):
            return False
