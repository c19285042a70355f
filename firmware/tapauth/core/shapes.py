"""Shapes and limits of what comes in from outside: EVerest's authorization types.

Each check returns None when the value may be used, else a short English reason for the log. A
reason names the member at fault and never its value, because a token value must not be logged.
A known member that is `null` is wrong. Unknown members are ignored: those of tokens and results,
which go out again, are removed, because nobody has looked at what is in them.
"""

from tapauth.compat import const
from tapauth.core.timestamps import parse_rfc3339

MAX_ID = const(36)
"""Most characters of an id token's value, and of the master pass group id."""
ID_TYPES = (
    "Central",
    "eMAID",
    "MacAddress",
    "ISO14443",
    "ISO15693",
    "KeyCode",
    "Local",
    "NoAuthorization",
)
"""IdToken's types. The store keeps a type by its place here (docs/store-format.md)."""
UID_TYPES = ("ISO14443", "ISO15693", "MacAddress")
"""The types whose values are bytes in hex digits."""
STATUSES = (
    "Accepted",
    "Blocked",
    "ConcurrentTx",
    "Expired",
    "Invalid",
    "NoCredit",
    "NotAllowedTypeEVSE",
    "NotAtThisLocation",
    "NotAtThisTime",
    "Unknown",
    "PinRequired",
    "Timeout",
)
"""AuthorizationStatus. The store keeps a status by its place here, too."""

# A shape says what a value may be:
#
#   _ASCII + most              a string of printable ASCII, of at most so many characters
#   _TEXT + most               any string without NUL, of at most so many characters
#   " one another "            an enum: its values between spaces cost less than a string each
#   [shape, fewest, most]      an array
#   (required, optional)       an object: its members' shapes by name, two dicts
#   int, bool                  a value of that very type
#   parse_rfc3339, _evse_id    what the function returns None for is wrong
_HEX_DIGITS = "0123456789abcdef"
_ASCII = const(0)
_TEXT = const(0x1_0000)  # above all lengths
_LONG = const(0xFFFF)


def _evse_id(value) -> int | None:
    """An EVSE's number, whether there is such an EVSE or not; None for what is none."""
    return value if type(value) is int and value >= 1 else None


def _enum(values: tuple) -> str:
    return " " + " ".join(values) + " "


_ID_TOKEN = (
    {"value": _ASCII + MAX_ID, "type": _enum(ID_TYPES)},
    {"additional_info": [({"value": _TEXT + 36, "type": _TEXT + 50}, {}), 0, _LONG]},
)
_CERTIFICATE_HASH: tuple = (
    {
        "hashAlgorithm": " SHA256 SHA384 SHA512 ",
        "issuerNameHash": _TEXT + 128,
        "issuerKeyHash": _TEXT + 128,
        "serialNumber": _TEXT + 40,
        "responderURL": _TEXT + 512,
    },
    {},
)
_PROVIDED_TOKEN = (
    {
        "id_token": _ID_TOKEN,
        "authorization_type": " OCPP RFID Autocharge PlugAndCharge BankCard ",
    },
    {
        "request_id": int,
        "parent_id_token": _ID_TOKEN,
        "connectors": [_evse_id, 0, _LONG],
        "prevalidated": bool,
        "certificate": _TEXT + 5500,
        "iso15118CertificateHashData": [_CERTIFICATE_HASH, 1, 4],
    },
)
_MESSAGE = (
    {"content": _TEXT + _LONG},
    {"format": " ASCII HTML URI UTF8 QRCODE ", "language": _TEXT + _LONG},
)
# tariff_messages may be missing, as in the examples of EVerest's own document.
_VALIDATION_RESULT = (
    {"authorization_status": _enum(STATUSES)},
    {
        "tariff_messages": [_MESSAGE, 0, _LONG],
        "certificate_status": " Accepted SignatureError CertificateExpired CertificateRevoked "
        "NoCertificateAvailable CertChainError ContractCancelled ",
        "expiry_time": parse_rfc3339,
        "parent_id_token": _ID_TOKEN,
        "evse_ids": [_evse_id, 0, _LONG],
        "reservation_id": int,
        "allowed_energy_transfer_modes": [
            (
                " AC_single_phase_core AC_two_phase AC_three_phase_core DC_core DC_extended "
                "DC_combo_core DC_unique DC AC_BPT AC_BPT_DER AC_DER AC_DER_IEC AC_DER_SAE DC_BPT "
                "DC_ACDP DC_ACDP_BPT WPT MCS MCS_BPT "
            ),
            1,
            _LONG,
        ],
    },
)
_UPDATE: tuple = ({"validation_result": _VALIDATION_RESULT, "connector_id": int}, {})
_WITHDRAW: tuple = ({}, {"evse_id": int, "id_token": _ID_TOKEN})
_SESSION_STARTED: tuple = ({"reason": " EVConnected Authorized "}, {})
_SESSION_EVENT = ({"event": _TEXT + 64}, {"connector_id": int})


def normal(id_token: dict) -> str:
    """The spelling in which a checked IdToken is compared: lower case; a UID or MAC address, as
    the reader makes it, without what people write between its hex digits (04:A1, 04-a1, 0x04A1).
    """
    value = id_token["value"].lower()
    # As the reader spells it, there is nothing to do: a tap asks several times.
    if id_token["type"] not in UID_TYPES or not value.strip(_HEX_DIGITS):
        return value
    digits = value
    for mark in ":-. ":
        digits = digits.replace(mark, "")
    if digits.startswith("0x"):
        digits = digits[2:]
    return value if digits.strip(_HEX_DIGITS) else digits


def _check_text(value, shape: int, name: str) -> str | None:
    if type(value) is not str:
        return name + " is not a string"
    if len(value) > shape & _LONG:
        return name + " is too long"
    if shape & _TEXT:
        return name + " holds a NUL" if "\0" in value else None
    try:
        for byte in value.encode():
            if not 32 <= byte < 127:
                raise ValueError
    except ValueError:  # also CPython's UnicodeEncodeError, for half a surrogate pair
        return name + " is not printable ASCII"
    return None


def _check_object(value, shape: tuple, name: str) -> str | None:
    if type(value) is not dict:
        return name + " is not an object"
    required, optional = shape
    for key in required:
        if key not in value:
            return name + " lacks " + key
        error = _check(value[key], required[key], key)
        if error:
            return error
    for key in optional:
        if key in value:
            error = _check(value[key], optional[key], key)
            if error:
                return error
    return None


def _check(value, shape, name: str) -> str | None:
    kind = type(shape)
    if kind is int:
        return _check_text(value, shape, name)
    if kind is tuple:
        return _check_object(value, shape, name)
    if kind is str:
        known = type(value) is str and " " not in value and " " + value + " " in shape
        return None if known else name + " is none of its enum"
    if kind is list:
        item_shape, fewest, most = shape
        if type(value) is not list or not fewest <= len(value) <= most:
            return name + " is not such an array"
        for item in value:
            error = _check(item, item_shape, name)
            if error:
                return error
        return None
    if shape is parse_rfc3339:
        return name + " is no RFC 3339 date-time" if parse_rfc3339(value) is None else None
    if shape is _evse_id:
        return name + " names what is no EVSE id" if _evse_id(value) is None else None
    # `true` is no integer here, nor is 1.7 or 1.0.
    return None if type(value) is shape else name + " is of the wrong type"


def _drop_unknown(value, shape) -> None:
    """Remove the members that a checked `value` has beyond its shape."""
    if type(shape) is list:
        item_shape, _, _ = shape
        for item in value:
            _drop_unknown(item, item_shape)
    elif type(shape) is tuple:
        required, optional = shape
        for key in list(value):
            known = required.get(key) or optional.get(key)
            if known is None:
                del value[key]
            else:
                _drop_unknown(value[key], known)


def _check_and_drop(value, shape: tuple, name: str) -> str | None:
    error = _check_object(value, shape, name)
    if not error:
        _drop_unknown(value, shape)
    return error


def check_id_token(id_token) -> str | None:
    """Why `id_token` is no IdToken, or None."""
    return _check_object(id_token, _ID_TOKEN, "id token")


def check_provided_token(token) -> str | None:
    """Why `token` is no ProvidedIdToken, or None. An EVSE id that does not exist is no error."""
    return _check_and_drop(token, _PROVIDED_TOKEN, "token")


def check_validation_result(result) -> str | None:
    """Why `result` is no ValidationResult, or None."""
    return _check_and_drop(result, _VALIDATION_RESULT, "result")


def check_validation_result_update(update) -> str | None:
    """Why `update` is no ValidationResultUpdate, or None."""
    return _check_and_drop(update, _UPDATE, "update")


def check_withdraw_request(request) -> str | None:
    """Why `request` is no WithdrawAuthorizationRequest, or None.

    An object with unknown members only is refused: a misspelt key must not withdraw everything.
    """
    error = _check_object(request, _WITHDRAW, "request")
    if not error and request and "evse_id" not in request and "id_token" not in request:
        error = "request has no known member"
    return error


def check_master_pass_group_id(group_id) -> str | None:
    """Why `group_id` cannot be the master pass group id, or None."""
    return _check_text(group_id, _ASCII + MAX_ID, "master_pass_group_id")


def check_connection_timeout(seconds) -> str | None:
    """Why `seconds` cannot be set as the connection timeout, or None."""
    if type(seconds) is int and 10 <= seconds <= 300:
        return None
    return "connection_timeout is no integer of 10..300"


def check_session_event(event) -> str | None:
    """Why `event` is no SessionEvent, or None. An event of an unknown name is no error."""
    error = _check_object(event, _SESSION_EVENT, "event")
    if not error and event["event"] == "SessionStarted":
        error = _check_object(event.get("session_started"), _SESSION_STARTED, "session_started")
    return error
