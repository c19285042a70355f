"""The configuration: what is accepted, and that each refusal names the key."""

import json

from tapauth import config

MINIMAL = {"board_id": "b1", "mqtt": {"host": "broker"}}


def with_change(change: dict) -> str:
    """The minimal configuration with some keys replaced, as JSON."""
    changed = dict(MINIMAL)
    changed.update(change)
    return json.dumps(changed)


def refusal(change: dict) -> str:
    """The error text for the minimal configuration with `change` merged in."""
    try:
        config.parse(with_change(change))
    except config.ConfigError as error:
        return str(error)
    raise AssertionError(f"accepted: {change}")


def test_defaults_are_filled_in():
    result = config.parse(json.dumps(MINIMAL))
    assert result["mqtt"]["port"] == 1883
    assert result["auth"]["selection_algorithm"] == "FindFirst"
    assert result["base_topic"] == "tapauth/b1"
    assert result["mqtt"]["client_id"] == "tapauth-b1"
    assert list(result["evses"]) == [1]


def test_given_values_win():
    result = config.parse(with_change({"base_topic": "site/7", "evses": [2, 1]}))
    assert result["base_topic"] == "site/7"
    assert result["evses"] == [2, 1]


def test_unknown_keys_are_named():
    assert refusal({"evse": [1]}) == "evse: unknown key"
    assert refusal({"auth": {"connectionTimeout": 30}}) == "auth.connectionTimeout: unknown key"


def test_wrong_types_are_named():
    for change, start in (
        ({"board_id": 7}, "board_id: must be a string"),
        ({"mqtt": {"host": "x", "port": "1883"}}, "mqtt.port: must be an integer"),
        ({"mqtt": {"host": "x", "port": 1883.0}}, "mqtt.port: must be an integer"),
        ({"mqtt": {"host": "x", "port": True}}, "mqtt.port: must be an integer"),
        ({"mqtt": []}, "mqtt: must be an object"),
        ({"mqtt": {"host": None}}, "mqtt.host: must be a string"),
        ({"auth": {"ignore_connector_faults": 1}}, "auth.ignore_connector_faults: must be true"),
        ({"evses": 2}, "evses: must be a list"),
        ({"evses": ["1"]}, "evses: must be a list of integers"),
        ({"log_level": 1}, "log_level: must be a string"),
    ):
        text = refusal(change)
        assert text.startswith(start), text


def test_a_secret_that_is_no_string_is_not_told_to_the_log():
    for section, key in (("network", "password"), ("mqtt", "password"), ("rpc", "backend_key")):
        for secret in (48151623, [48151623], {"a": 48151623}):
            change = dict(MINIMAL["mqtt"]) if section == "mqtt" else {}
            change[key] = secret
            text = refusal({section: change})
            assert text == f"{section}.{key}: must be a string", text


def test_values_out_of_range_are_named():
    for change, start in (
        ({"auth": {"connection_timeout": 9}}, "auth.connection_timeout: 9 is out of range"),
        ({"auth": {"connection_timeout": 301}}, "auth.connection_timeout: 301 is out of range"),
        ({"auth": {"selection_algorithm": "UserInput"}}, "auth.selection_algorithm"),
        ({"auth": {"master_pass_group_id": "x" * 37}}, "auth.master_pass_group_id: 37 characters"),
        ({"evses": []}, "evses: 0 entries is out of range"),
        ({"evses": [1] * 9}, "evses: 9 entries is out of range"),
        ({"evses": [5]}, "evses: 5 is out of range"),
        ({"board_id": ""}, "board_id: 0 characters"),
        ({"board_id": "a+b"}, "board_id: + and #"),
        ({"base_topic": "a/#"}, "base_topic: + and #"),
        ({"base_topic": "$SYS/a"}, "base_topic: topics that begin with $"),
        ({"board_id": "a\x01"}, "board_id: control characters"),
        ({"board_id": "a\uffff"}, "board_id: control characters"),
        ({"everest": {"auth_consumer_id": "a\n"}}, "everest.auth_consumer_id: control char"),
        ({"everest": {"auth_token_provider_id": "+"}}, "everest.auth_token_provider_id: + and"),
        ({"everest": {"topic_prefix": "\x7f/"}}, "everest.topic_prefix: control char"),
        ({"everest": {"topic_version": "\x80"}}, "everest.topic_version: control char"),
        ({"mqtt": {"host": "x", "client_id": "a\x02"}}, "mqtt.client_id: control characters"),
        ({"mqtt": {"host": "x", "user": "a\ufdd0"}}, "mqtt.user: control characters"),
    ):
        text = refusal(change)
        assert text.startswith(start), text


def test_missing_keys_are_named():
    for text, expected in (
        ('{"mqtt": {"host": "x"}}', "board_id: is required"),
        ('{"board_id": "x"}', "mqtt.host: is required"),
        ("[]", "the configuration: must be an object"),
        ("{", "the configuration is not valid JSON"),
        ("", "the configuration is not valid JSON"),
        ('{"board_id": "\\ud83d", "mqtt": {"host": "x"}}', "the configuration is not valid JSON"),
        ('{"board_id" "b", "mqtt": {"host": "x"}}', "the configuration is not valid JSON"),
    ):
        try:
            config.parse(text)
        except config.ConfigError as error:
            assert str(error) == expected, error
        else:
            raise AssertionError(text)


def test_a_missing_file_is_a_config_error():
    try:
        config.load("/no/such/config.json")
    except config.ConfigError as error:
        assert "/no/such/config.json" in str(error)
    else:
        raise AssertionError("loaded a file that is not there")


def mqtt_refusal(**keys) -> str:
    return refusal({"mqtt": dict(keys, host="broker")})


def test_tls_is_whole_or_refused():
    tls = {"enabled": True, "ca_file": "/ca.der"}
    result = config.parse(with_change({"mqtt": {"host": "broker", "tls": tls}}))["mqtt"]
    assert result["port"] == 8883
    result = config.parse(with_change({"mqtt": {"host": "broker", "port": 1, "tls": tls}}))
    assert result["mqtt"]["port"] == 1
    assert mqtt_refusal(tls={"enabled": True}).startswith("mqtt.tls.ca_file: is required")
    # Somebody wanted TLS: plain TCP is not what they get.
    assert mqtt_refusal(tls={"ca_file": "/ca.der"}).startswith("mqtt.tls.enabled: must be true")
    tls["cert_file"] = "/cert.der"
    assert mqtt_refusal(tls=tls).startswith("mqtt.tls: cert_file and key_file")
    assert mqtt_refusal(tls=True) == "mqtt.tls: must be an object"
    assert mqtt_refusal(tls={"verify": False}) == "mqtt.tls.verify: unknown key"


def test_the_name_server_is_an_address():
    for text in ("192.168.1.1", "192.168.1.1:5353", ""):
        config.parse(with_change({"mqtt": {"host": "broker", "name_server": text}}))
    assert mqtt_refusal(name_server="router").startswith("mqtt.name_server: must be an IPv4")
    for text in ("1", "192.168.1", "192.168.1.256", "192.168.1.1:x", "1.1.1.1:65536", ".:"):
        assert mqtt_refusal(name_server=text).startswith("mqtt.name_server: must be an IPv4")


def test_who_wants_tls_for_the_console_does_not_get_it_in_clear():
    files = {"tls_cert": "/cert.der", "tls_key": "/key.der"}
    config.parse(with_change({"server": files}))
    for name in files:
        text = refusal({"server": {"enabled": True, name: files[name]}})
        assert text == "server: tls_cert and tls_key go together"
        config.parse(with_change({"server": {"enabled": True, name: files[name]}}), False)


def test_an_address_with_which_no_network_comes_up_is_refused():
    config.parse(with_change({"network": {"address": "192.168.1.7", "name_server": "1.1.1.1"}}))
    config.parse(with_change({"network": {"address": "", "name_server": ""}}))
    for key in ("address", "netmask", "gateway", "name_server"):
        for text in (
            "bananas",
            "192.168.1.256",
            "192.168..1",
            "1.2.3.4.5",
            "1.2.3.4:80",
            "1.2.3.-4",
        ):
            network = {"address": "192.168.1.7", key: text}
            assert refusal({"network": network}) == f"network.{key}: must be an IPv4 address"
            # A board in the field may have it, and is not to stand still after an update.
            config.parse(with_change({"network": network}), False)


def test_an_address_with_which_no_auth_service_starts_is_refused():
    for text in ("//host", "//host:80/board/1.part", ""):
        config.parse(with_change({"rpc": {"address": text, "backend_id": text}}))
    for key in ("address", "backend_id"):
        for text in ("cloud", "/cloud", "//", "///board", "http://host/board", "//ho st/board"):
            rpc = {"address": "//host", key: text}
            assert refusal({"rpc": rpc}) == f"rpc.{key}: must be //host/path"
            config.parse(with_change({"rpc": rpc}), False)
