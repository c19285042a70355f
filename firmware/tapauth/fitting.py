"""Messages about tokens, written no longer than can be kept for somebody who does not take them
now: a ProvidedIdToken may bring several KB of certificates along.

Here messages are written; cutting.py says what goes first, and is loaded for long ones only.
"""

import json

from tapauth.compat import forget, late


def _written(message: dict, most: int) -> bytes:
    """The JSON, or b"" where that is more than `most` bytes or than the heap has room for."""
    try:
        data = json.dumps(message).encode()
    except MemoryError:
        return b""
    return data if len(data) <= most else b""


def fitting(message: dict, key: str, most: int) -> bytes:
    """The JSON of a status or of a command, whose member `key` is a ProvidedIdToken.

    Better a message without its largest members than none: a long certificate is left out, in
    more than 1 KB the hash data of certificates too, and in more than `most` bytes all that is
    not needed to act on it. The message itself is not changed. Raises MemoryError.
    """
    token = message.get(key)
    if token is None:
        return json.dumps(message).encode()
    if "certificate" not in token and "iso15118CertificateHashData" not in token:
        data = _written(message, most)
        if data:
            return data
    # Imported when needed: a card's messages fit.
    with late("cutting"):
        from tapauth import cutting

    forget(cutting)
    for smaller, enough in cutting.cuts(message, key, most):
        data = _written(smaller, enough)
        if data:
            return data
    # The smallest, whatever its length: what it tells must not be lost.
    return json.dumps(smaller).encode()
