"""JSON Schemas of what the board publishes, after EVerest's types. Unknown members are allowed on
the wire, but not sent: what the board adds to a type is named here.
"""

from jsonschema import Draft202012Validator

ID_TYPES = ["Central", "eMAID", "MacAddress", "ISO14443", "ISO15693", "KeyCode", "Local"]
ID_TYPES += ["NoAuthorization"]
AUTHORIZATION_STATUSES = ["Accepted", "Blocked", "ConcurrentTx", "Expired", "Invalid", "NoCredit"]
AUTHORIZATION_STATUSES += ["NotAllowedTypeEVSE", "NotAtThisLocation", "NotAtThisTime", "Unknown"]
AUTHORIZATION_STATUSES += ["PinRequired", "Timeout"]
TOKEN_STATUSES = ["Processing", "Accepted", "Rejected", "TimedOut", "UsedToReauthorize"]
TOKEN_STATUSES += ["UsedToStart", "UsedToStop", "Withdrawn"]


def obj(required: dict, optional: dict | None = None) -> dict:
    """An object with exactly these members, the first ones required."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def loose(schema):
    """The schema with unknown members allowed, as on the wire towards the board."""
    if isinstance(schema, dict):
        return {
            key: loose(value) for key, value in schema.items() if key != "additionalProperties"
        }
    return [loose(item) for item in schema] if isinstance(schema, list) else schema


def text(most: int | None = None) -> dict:
    return {"type": "string"} | ({} if most is None else {"maxLength": most})


def array(items: dict, least: int = 0) -> dict:
    return {"type": "array", "items": items, "minItems": least}


EVSE_ID = {"type": "integer", "minimum": 1}
CUSTOM_ID_TOKEN = obj({"value": text(36), "type": text(50)})
ID_TOKEN = obj(
    {"value": text(36), "type": {"enum": ID_TYPES}}, {"additional_info": array(CUSTOM_ID_TOKEN)}
)
CERTIFICATE_HASH = obj(
    {
        "hashAlgorithm": {"enum": ["SHA256", "SHA384", "SHA512"]},
        "issuerNameHash": text(128),
        "issuerKeyHash": text(128),
        "serialNumber": text(40),
        "responderURL": text(512),
    }
)
PROVIDED_ID_TOKEN = obj(
    {
        "id_token": ID_TOKEN,
        "authorization_type": {
            "enum": ["OCPP", "RFID", "Autocharge", "PlugAndCharge", "BankCard"]
        },
    },
    {
        "request_id": {"type": "integer"},
        "parent_id_token": ID_TOKEN,
        "connectors": array(EVSE_ID),
        "prevalidated": {"type": "boolean"},
        "certificate": text(5500),
        "iso15118CertificateHashData": array(CERTIFICATE_HASH, 1) | {"maxItems": 4},
    },
)
MESSAGE_CONTENT = obj(
    {"content": text()},
    {"format": {"enum": ["ASCII", "HTML", "URI", "UTF8", "QRCODE"]}, "language": text()},
)
TOKEN_VALIDATION_STATUS = obj(
    {
        "token": PROVIDED_ID_TOKEN,
        "status": {"enum": TOKEN_STATUSES},
        "messages": array(MESSAGE_CONTENT),
        "seq": {"type": "integer", "minimum": 0},
        "time": {"pattern": r"^(clock not set|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$"},
    }
)
VALIDATION_RESULT = obj(
    {
        "authorization_status": {"enum": AUTHORIZATION_STATUSES},
        "tariff_messages": array(MESSAGE_CONTENT),
    },
    {
        "certificate_status": text(),
        "expiry_time": text(),
        "parent_id_token": ID_TOKEN,
        "evse_ids": array(EVSE_ID),
        "reservation_id": {"type": "integer"},
        "allowed_energy_transfer_modes": array(text(), 1),
    },
)
HEARTBEAT = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
VALIDATE_REQUEST = obj({"headers": obj({"replyTo": text()}), "payload": PROVIDED_ID_TOKEN})
DISCOVERY = obj(
    {
        "apis": array(
            obj(
                {
                    "type": text(),
                    "module_id": text(),
                    "version": {"const": 1},
                    "communication_monitoring": obj(
                        {
                            "heartbeat_period_ms": {"type": "integer"},
                            "communication_check_period_s": {"type": "integer"},
                        },
                        {"request_reply_timeout_s": {"type": "integer"}},
                    ),
                }
            ),
            1,
        )
    }
)
COMMAND = {
    "oneOf": [
        obj(
            {
                "command": {"const": "authorize_response"},
                "token": PROVIDED_ID_TOKEN,
                "result": VALIDATION_RESULT,
            }
        ),
        obj({"command": {"const": "withdraw_authorization"}}),
        obj(
            {
                "command": {"const": "stop_transaction"},
                "reason": {"enum": ["Local", "MasterPass", "DeAuthorized"]},
            },
            {"id_tag": PROVIDED_ID_TOKEN},
        ),
    ]
}
ERRORS = array(
    obj(
        {
            "type": {
                "enum": [
                    "generic/CommunicationFault",
                    "generic/VendorError",
                    "generic/VendorWarning",
                ]
            },
            "sub_type": text(),
            "message": text(),
            "severity": {"enum": ["Low", "Medium", "High"]},
            "origin": text(),
        }
    )
)

# The end of a topic that the board publishes to its schema.
BY_TOPIC = {
    "/e2m/token_validation_status": TOKEN_VALIDATION_STATUS,
    "/e2m/heartbeat": HEARTBEAT,
    "/e2m/validate_token": VALIDATE_REQUEST,
    "/command": COMMAND,
    "/errors": ERRORS,
    "/ready_beacon": obj({}),
}


def check(topic: str, payload) -> bool:
    """Validate a message of the board. False for a topic without a schema here.

    Raises jsonschema.ValidationError.
    """
    for end, schema in BY_TOPIC.items():
        if topic.endswith(end):
            Draft202012Validator(schema).validate(payload)
            return True
    return False
