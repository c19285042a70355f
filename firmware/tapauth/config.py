"""The board's configuration: /config.json, checked key by key before anything uses it.

A configuration with an unknown key, a wrong type or a value out of range is refused whole, with
an error that names the key: a board never runs on half of what its owner meant.
docs/configuration.md lists every key.
"""

import json

from tapauth import topics
from tapauth.compat import const
from tapauth.json_in import load as load_json

_INT = const(0)
_TEXT = const(1)
_BOOL = const(2)
_CHOICE = const(3)
_INT_LIST = const(4)
_REQUIRED = object()

_TYPE_NAMES = ("an integer", "a string", "true or false", "a string", "a list of integers")

# The fields of a rule of the schema. The bounds are those of an integer's value, and of the length
# of a string or a list; of a list there is also the rule of its items. A nested dict is an object.
_KIND = const(0)
_DEFAULT = const(1)
_CHOICES = const(2)  # of _CHOICE, in place of the bounds
_LOW = const(2)
_HIGH = const(3)
_ITEM = const(4)

_SCHEMA = {
    "board_id": (_TEXT, _REQUIRED, 1, 32),
    "base_topic": (_TEXT, "", 0, 64),  # without one: tapauth/ and the board_id
    "log_level": (_CHOICE, "info", ("debug", "info", "warning", "error")),
    "role": (_CHOICE, "standalone", ("standalone", "attached")),
    "pinning": (_BOOL, True),
    "evses": (_INT_LIST, (1,), 1, 8, (_INT, 1, 1, 4)),
    "evse_io": (_CHOICE, "mqtt", ("mqtt", "lines")),
    "lines": {
        "debounce_ms": (_INT, 50, 20, 1000),
        "plugged_low": (_BOOL, True),
        "enable_low": (_BOOL, False),
        "fault_low": (_BOOL, False),
    },
    "network": {
        "ssid": (_TEXT, "", 0, 32),
        "password": (_TEXT, "", 0, 64),
        "hostname": (_TEXT, "", 0, 32),
        "address": (_TEXT, "", 0, 15),
        "netmask": (_TEXT, "255.255.255.0", 7, 15),
        "gateway": (_TEXT, "0.0.0.0", 7, 15),
        "name_server": (_TEXT, "", 0, 15),
    },
    "update": {
        "confirm_s": (_INT, 120, 10, 3600),
        "give_up_s": (_INT, 900, 60, 86_400),
        "without_broker": (_BOOL, False),
    },
    "mqtt": {
        "host": (_TEXT, _REQUIRED, 1, 253),
        "port": (_INT, 0, 1, 65535),  # 0 is no port but "not given": it goes by TLS then
        "client_id": (_TEXT, "", 0, 64),
        "user": (_TEXT, "", 0, 64),
        "password": (_TEXT, "", 0, 128),
        "keepalive_s": (_INT, 20, 5, 3600),
        "timeout_ms": (_INT, 5000, 500, 60_000),
        "max_message_bytes": (_INT, 8192, 256, 16_384),
        "outbox_messages": (_INT, 32, 1, 256),
        "outbox_bytes": (_INT, 8192, 1024, 65_536),
        "name_server": (_TEXT, "", 0, 21),
        "tls": {
            "enabled": (_BOOL, False),
            "ca_file": (_TEXT, "", 0, 64),
            "cert_file": (_TEXT, "", 0, 64),
            "key_file": (_TEXT, "", 0, 64),
            "server_name": (_TEXT, "", 0, 253),
        },
    },
    "everest": {
        "topic_prefix": (_TEXT, "", 0, 64),
        "topic_version": (_TEXT, "1", 1, 8),
        "auth_consumer_id": (_TEXT, "auth_api", 1, 64),
        "auth_token_provider_id": (_TEXT, "nfc_reader", 1, 64),
        "auth_token_validator_id": (_TEXT, "local_list", 1, 64),
        "heartbeat_interval_ms": (_INT, 1000, 0, 3_600_000),
        "communication_check_s": (_INT, 5, 0, 3600),
        "remote_validator": (_BOOL, True),
        "remote_timeout_ms": (_INT, 2000, 200, 60_000),
        "accept_unknown_offline": (_BOOL, False),
    },
    "auth": {
        "selection_algorithm": (
            _CHOICE,
            "FindFirst",
            ("FindFirst", "PlugEvents", "PlugEventsLIFO"),
        ),
        "connection_timeout": (_INT, 60, 10, 300),
        "master_pass_group_id": (_TEXT, "", 0, 36),
        "prioritize_authorization_over_stopping_transaction": (_BOOL, True),
        "ignore_connector_faults": (_BOOL, False),
        "plug_in_timeout_enabled": (_BOOL, False),
        "stop_transaction_on_reswipe": (_BOOL, True),
        "accept_expiry_without_clock": (_BOOL, False),
        "max_tokens_in_process": (_INT, 8, 1, 32),
    },
    "cards": {
        "capacity": (_INT, 10_000, 1, 65_535),
        "cache_days": (_INT, 90, 1, 240),
        "mqtt_update": (_BOOL, False),
    },
    "reader": {
        "bus": (_CHOICE, "spi", ("spi", "uart", "i2c")),
        "address": (_INT, 0x24, 8, 119),
        "reset_pin": (_INT, -1, -1, 48),
        "irq_pin": (_INT, -1, -1, 48),
        "poll_ms": (_INT, 50, 10, 1000),
        "removal_ms": (_INT, 2000, 200, 60_000),
        "restart_guard_ms": (_INT, 3000, 0, 60_000),
        "heartbeat_ms": (_INT, 2000, 500, 5000),
        "uppercase": (_BOOL, False),
    },
    "rpc": {
        "address": (_TEXT, "", 0, 256),
        "backend_id": (_TEXT, "", 0, 256),
        "backend_key": (_TEXT, "", 0, 128),
        "tokens_backend_only": (_BOOL, False),
        "tokens_as_psk": (_BOOL, False),
    },
    "clock": {
        "source": (_CHOICE, "mqtt", ("mqtt", "ntp", "system", "none")),
        "ntp_host": (_TEXT, "pool.ntp.org", 1, 253),
    },
    "server": {
        "enabled": (_BOOL, False),
        "address": (_TEXT, "0.0.0.0", 1, 64),
        "port": (_INT, 80, 1, 65535),
        "names": (_TEXT, "", 0, 253),
        "tls_cert": (_TEXT, "", 0, 64),
        "tls_key": (_TEXT, "", 0, 64),
        "max_connections": (_INT, 4, 2, 8),
        "idle_s": (_INT, 120, 30, 3600),
        "plan_pro": (_BOOL, True),
        "single_session": (_BOOL, True),
        "pin_recoverable": (_BOOL, False),
    },
    "health_interval_s": (_INT, 30, 1, 3600),
    "watchdog_ms": (_INT, 8000, 1000, 8388),  # the RP2040's longest
}


class ConfigError(ValueError):
    """The configuration is refused; the text names the key and what was expected."""


def _bounds(value: int, rule: tuple, key: str, unit: str = "") -> None:
    low, high = rule[_LOW], rule[_HIGH]
    if not low <= value <= high:
        raise ConfigError(f"{key}: {value}{unit} is out of range, {low} to {high}{unit} allowed")


def _is_int(value) -> bool:
    # True is an int to Python, and a slip in a configuration.
    return isinstance(value, int) and not isinstance(value, bool)


def _check(value, rule: tuple, key: str) -> None:
    kind = rule[_KIND]
    if kind == _INT:
        right = _is_int(value)
    elif kind == _BOOL:
        right = isinstance(value, bool)
    elif kind == _INT_LIST:
        right = isinstance(value, list) and all(_is_int(item) for item in value)
    else:
        right = isinstance(value, str)
    if not right:
        # A number in place of a password is the password: texts are not told.
        given = "" if kind == _TEXT else ", not " + json.dumps(value)[:40]
        raise ConfigError(f"{key}: must be {_TYPE_NAMES[kind]}{given}")
    if kind == _INT:
        _bounds(value, rule, key)
    elif kind == _TEXT:
        _bounds(len(value), rule, key, " characters")
    elif kind == _CHOICE and value not in rule[_CHOICES]:
        choices = ", ".join(rule[_CHOICES])
        raise ConfigError(f"{key}: {json.dumps(value)} is not one of {choices}")
    elif kind == _INT_LIST:
        _bounds(len(value), rule, key, " entries")
        for item in value:
            _bounds(item, rule[_ITEM], key)


def _object(given, schema: dict, path: str) -> dict:
    if not isinstance(given, dict):
        raise ConfigError(f"{path or 'the configuration'}: must be an object")
    prefix = path + "." if path else ""
    # A slip in a name would leave the default in force, and its owner would believe otherwise.
    for name in given:
        if name not in schema:
            raise ConfigError(f"{prefix}{name}: unknown key")
    result = {}
    for name, rule in schema.items():
        key = prefix + name
        if isinstance(rule, dict):
            result[name] = _object(given.get(name, {}), rule, key)
        elif name in given:
            _check(given[name], rule, key)
            result[name] = given[name]
        elif rule[_DEFAULT] is _REQUIRED:
            raise ConfigError(f"{key}: is required")
        else:
            result[name] = rule[_DEFAULT]
    return result


_NAME_SERVER = "mqtt.name_server: must be an IPv4 address, with :port if not 53"


def _is_number(text: str, most: int) -> bool:
    """Whether a text is a decimal number of at most `most`."""
    return bool(text) and not text.strip("0123456789") and int(text) <= most


def _is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(_is_number(part, 255) for part in parts)


def _check_mqtt(mqtt: dict) -> None:
    tls = mqtt["tls"]
    for key in ("client_id", "user"):
        if not topics.is_text(mqtt[key]):
            raise ConfigError(f"mqtt.{key}: control characters are not allowed in MQTT texts")
    if mqtt["name_server"].strip("0123456789.:"):
        raise ConfigError(_NAME_SERVER)
    if tls["enabled"] and not tls["ca_file"]:
        raise ConfigError("mqtt.tls.ca_file: is required when TLS is enabled")
    # Files without TLS: somebody believes the connection to be encrypted.
    if not tls["enabled"] and any(tls.values()):
        raise ConfigError("mqtt.tls.enabled: must be true when other keys of mqtt.tls are set")
    if bool(tls["cert_file"]) != bool(tls["key_file"]):
        raise ConfigError("mqtt.tls: cert_file and key_file go together")
    if not mqtt["port"]:
        mqtt["port"] = 8883 if tls["enabled"] else 1883


def _check_new(result: dict) -> None:
    """Refuse more in a configuration that is written now. A board in the field may hold such a
    thing without harm, and is not to refuse all of its configuration after an update.
    """
    name_server = result["mqtt"]["name_server"]
    address, _, port = name_server.partition(":")
    if name_server and not (_is_ipv4(address) and (not port or _is_number(port, 65535))):
        raise ConfigError(_NAME_SERVER)
    for key in ("address", "netmask", "gateway", "name_server"):
        text = result["network"][key]
        if text and not _is_ipv4(text):
            raise ConfigError(f"network.{key}: must be an IPv4 address")
    for key in ("address", "backend_id"):
        text = result["rpc"][key]
        # The service itself looks closer; this is what somebody takes for an address.
        if text and (not text.startswith("//") or text[2:3] in ("", "/") or " " in text):
            raise ConfigError(f"rpc.{key}: must be //host/path")
    if bool(result["server"]["tls_cert"]) != bool(result["server"]["tls_key"]):
        raise ConfigError("server: tls_cert and tls_key go together")


def parse(text: str, is_new: bool = True) -> dict:
    """Check a configuration and fill in the defaults; one that is not new a little less strictly.

    Returns nested dicts with every key of the schema. Raises ConfigError.
    """
    try:
        given = load_json(text)
    except ValueError:
        raise ConfigError("the configuration is not valid JSON")
    result = _object(given, _SCHEMA, "")
    # All of these become parts of topics, where "+" and "#" have a meaning.
    parts = [(key, result[key]) for key in ("base_topic", "board_id")]
    parts += [("everest." + key, text) for key, text in result["everest"].items()]
    for key, text in parts:
        if isinstance(text, str) and text:
            fault = topics.fault(text)
            if fault:
                raise ConfigError(f"{key}: {fault}")
    _check_mqtt(result["mqtt"])
    if is_new:
        _check_new(result)
    # The backend is never made to wait after a wrong key, so its key must not be one to guess.
    if 0 < len(result["rpc"]["backend_key"]) < 16:
        raise ConfigError("rpc.backend_key: must have at least 16 characters")
    if not result["base_topic"]:
        result["base_topic"] = "tapauth/" + result["board_id"]
    if not result["mqtt"]["client_id"]:
        result["mqtt"]["client_id"] = "tapauth-" + result["board_id"]
    return result


def load(path: str = "/config.json") -> dict:
    """Read and check the configuration file. Raises ConfigError, also when it is missing."""
    try:
        with open(path) as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error})")
    except UnicodeError:
        raise ConfigError(f"{path} is not UTF-8 text")
    # Not as a new one: a board in the field goes on with what its firmware took before.
    return parse(text, False)
