"""Cutting a message about a token: loaded for one that is too large, and forgotten again."""

import json

from tapauth.compat import const
from tapauth.fitting import LONG_CERTIFICATE, dumped

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


def cut(message: dict, key: str, most: int) -> bytes:
    """What fitting() gives of a message with a token. Raises MemoryError."""
    token = message[key]
    message = dict(message)
    if len(token.get("certificate", "")) > LONG_CERTIFICATE:
        message[key] = token = dict(token)
        del token["certificate"]
    if "iso15118CertificateHashData" in token:
        data = dumped(message, min(_ENOUGH, most))
        if data:
            return data
        message[key] = token = dict(token)
        del token["iso15118CertificateHashData"]
    data = dumped(message, most)
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
