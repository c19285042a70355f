"""Messages about tokens, cut to what can be kept for somebody who does not take them now."""

import json

from tapauth.compat import const

_LONG_CERTIFICATE = const(512)
_ENOUGH = const(1024)


def _only(value: dict, names: tuple) -> dict:
    return {name: value[name] for name in names if name in value}


def _bare(token: dict) -> dict:
    """A ProvidedIdToken with what an EVSE or a client must know of it."""
    bare = _only(token, ("authorization_type", "request_id", "prevalidated"))
    for name in ("id_token", "parent_id_token"):
        if name in token:
            bare[name] = _only(token[name], ("value", "type"))
    if "connectors" in token:
        bare["connectors"] = token["connectors"][:8]
    return bare


def _dumped(message: dict, most: int) -> bytes:
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
    not needed to act on it. The message itself is not changed.
    """
    token = message.get(key)
    if token is None:
        return json.dumps(message).encode()
    message = dict(message)
    if len(token.get("certificate", "")) > _LONG_CERTIFICATE:
        message[key] = token = dict(token)
        del token["certificate"]
    if "iso15118CertificateHashData" in token:
        data = _dumped(message, min(_ENOUGH, most))
        if data:
            return data
        message[key] = token = dict(token)
        del token["iso15118CertificateHashData"]
    data = _dumped(message, most)
    if data:
        return data
    message[key] = _bare(token)
    if "messages" in message:
        message["messages"] = []
    if "result" in message:
        result = _only(message["result"], ("authorization_status", "expiry_time"))
        result["tariff_messages"] = []
        message["result"] = result
    return json.dumps(message).encode()
