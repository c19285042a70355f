"""Certificates for one test run: an authority, servers good and bad, a client."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
NAME = "broker.test"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Authority:
    """A certificate authority that writes what it makes into `folder`."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._subject, self._key.public_key(), -DAY, 10 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = self._write("pem", self._certificate)
        self.der = self._write("der", self._certificate)

    def _builder(self, subject, public_key, start, end) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() + start)
            .not_valid_after(_now() + end)
        )

    def _write(self, kind: str, *items, suffix: str = "") -> str:
        encoding = serialization.Encoding.PEM if kind == "pem" else serialization.Encoding.DER
        data = b""
        for item in items:
            if isinstance(item, x509.Certificate):
                data += item.public_bytes(encoding)
            else:
                data += item.private_bytes(
                    encoding,
                    serialization.PrivateFormat.TraditionalOpenSSL,
                    serialization.NoEncryption(),
                )
        path = self.folder / f"{self.name}{suffix}.{kind}"
        path.write_bytes(data)
        return str(path)

    def issue(
        self, name: str, host: str = NAME, start=-DAY, end=DAY, kind: str = "pem", use_rsa=False
    ) -> tuple[str, str]:
        """Paths of a certificate for a host name or address, and of its key."""
        key = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if use_rsa
            else ec.generate_private_key(ec.SECP256R1())
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        alternative: x509.GeneralName = x509.DNSName(host)
        if host[0].isdigit():
            alternative = x509.IPAddress(ipaddress.ip_address(host))
        certificate = (
            self._builder(subject, key.public_key(), start, end)
            .add_extension(x509.SubjectAlternativeName([alternative]), False)
            .sign(self._key, hashes.SHA256())
        )
        suffix = "-" + name
        return (
            self._write(kind, certificate, suffix=suffix),
            self._write(kind, key, suffix=suffix + "-key"),
        )


def server_side(certificate: tuple[str, str], clients: str = "") -> ssl.SSLContext:
    """A server's context; `clients` is the path of the authority that clients must come from."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
