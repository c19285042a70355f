"""TLS for the local server."""

import ssl


def context(settings: dict):
    """The context with the configured certificate. Raises OSError, ValueError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(settings["tls_cert"], settings["tls_key"])
    return made
