"""What goes first of a message about a token that is too long: see fitting.py."""

from tapauth.compat import const

_LONG_CERTIFICATE = const(512)
_ENOUGH = const(1024)


def _only(value: dict, names: tuple) -> dict:
    return {name: value[name] for name in names if name in value}


def _without(value: dict, name: str) -> dict:
    value = dict(value)
    del value[name]
    return value


def _bare(token: dict) -> dict:
    """A ProvidedIdToken with what an EVSE or a client must know of it."""
    bare = _only(token, ("authorization_type", "request_id", "prevalidated"))
    for name in ("id_token", "parent_id_token"):
        if name in token:
            bare[name] = _only(token[name], ("value", "type"))
    if "connectors" in token:
        bare["connectors"] = token["connectors"][:8]
    return bare


def cuts(message: dict, key: str, most: int):
    """Steps: (message, the bytes it may have to be good enough), the message ever smaller.

    Its member `key` is a ProvidedIdToken. `message` itself is not changed; what was given is
    cut further by the next step.
    """
    token = message[key]
    message = dict(message)
    if len(token.get("certificate", "")) > _LONG_CERTIFICATE:
        message[key] = token = _without(token, "certificate")
    if "iso15118CertificateHashData" in token:
        yield message, min(_ENOUGH, most)
        message[key] = token = _without(token, "iso15118CertificateHashData")
    yield message, most
    message[key] = _bare(token)
    if "messages" in message:
        message["messages"] = []
    if "result" in message:
        result = _only(message["result"], ("authorization_status", "expiry_time"))
        result["tariff_messages"] = []
        message["result"] = result
    yield message, most
