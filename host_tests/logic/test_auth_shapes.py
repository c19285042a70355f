"""Malformed input leaves no trace but a counter; times are read as RFC 3339 has them."""

import sys

from auth_fixture import T1, T2, Charger, id_token, result, started, token, with_members

from tapauth.core import shapes
from tapauth.core.settings import AuthSettings
from tapauth.core.timestamps import parse_rfc3339

HASH = {
    "hashAlgorithm": "SHA256",
    "issuerNameHash": "n" * 128,
    "issuerKeyHash": "k" * 128,
    "serialNumber": "s" * 40,
    "responderURL": "u" * 512,
}

WRONG_ID_TOKENS = (
    None,
    [],
    "T1",
    {"value": T1},
    {"type": "ISO14443"},
    id_token(T1, "iso14443"),
    id_token(T1, 5),
    id_token(T1, None),
    id_token(5),
    id_token(None),
    id_token("v" * 37),
    id_token("a\0b"),
    id_token("a\nb"),
    id_token("caf\u00e9"),
    id_token("\x7f"),
    with_members(id_token(T1), additional_info=None),
    with_members(id_token(T1), additional_info={}),
    with_members(id_token(T1), additional_info=["x"]),
    with_members(id_token(T1), additional_info=[{"value": "x"}]),
    with_members(id_token(T1), additional_info=[{"value": "x" * 37, "type": "y"}]),
    with_members(id_token(T1), additional_info=[{"value": "x", "type": "y" * 51}]),
)

WRONG_TOKENS = [
    None,
    [],
    5,
    "token",
    {},
    {"id_token": id_token(T1)},
    {"authorization_type": "RFID"},
    token(T1, authorization_type="rfid"),
    token(T1, authorization_type=None),
    token(T1, authorization_type=["RFID"]),
    token(T1, request_id="1"),
    token(T1, request_id=True),
    token(T1, request_id=1.5),
    token(T1, prevalidated=1),
    token(T1, prevalidated=None),
    token(T1, ["1"]),
    token(T1, [True]),
    token(T1, [1.0]),
    token(T1, [0]),
    token(T1, [1, -1]),
    with_members(token(T1), connectors=None),
    with_members(token(T1), connectors=1),
    token(T1, certificate="c" * 5501),
    token(T1, certificate="a\0"),
    token(T1, iso15118CertificateHashData=[]),
    token(T1, iso15118CertificateHashData=[HASH] * 5),
    token(T1, iso15118CertificateHashData=[with_members(HASH, hashAlgorithm="MD5")]),
    token(T1, iso15118CertificateHashData=[with_members(HASH, serialNumber="s" * 41)]),
]
for wrong in WRONG_ID_TOKENS:
    WRONG_TOKENS.append(token(T1, id_token=wrong))
    WRONG_TOKENS.append(token(T1, parent_id_token=wrong))

WRONG_RESULTS = [
    [],
    {},
    {"tariff_messages": []},
    result("accepted"),
    result(5),
    result(tariff_messages=None),
    result(tariff_messages=[{}]),
    result(tariff_messages=[{"content": 5}]),
    result(tariff_messages=[{"content": "x", "format": "PDF"}]),
    result(tariff_messages=[{"content": "x", "language": None}]),
    result(certificate_status="Fine"),
    result(expiry_time="tomorrow"),
    result(expiry_time=1767225600),
    result(expiry_time=None),
    result(evse_ids=1),
    result(evse_ids=["1"]),
    result(evse_ids=[True]),
    result(evse_ids=[0]),
    result(evse_ids=[1, -1]),
    result(reservation_id="1"),
    result(allowed_energy_transfer_modes=[]),
    result(allowed_energy_transfer_modes=["AC"]),
]
for wrong in WRONG_ID_TOKENS:
    WRONG_RESULTS.append(result(parent_id_token=wrong))


def test_a_malformed_token_is_dropped():
    charger = Charger()
    charger.ev(1)
    for wrong in WRONG_TOKENS:
        assert charger.provide(wrong), wrong
    assert charger.statuses == charger.commands == []
    assert charger.counter("refused_tokens") == len(WRONG_TOKENS)
    assert charger.auth.tokens_in_process() == 0


def test_reasons_name_the_member_and_never_the_value():
    reason = shapes.check_provided_token(token("secret-card\n"))
    assert reason == "value is not printable ASCII"
    assert shapes.check_provided_token({}) == "token lacks id_token"
    assert shapes.check_provided_token(token("x" * 37)) == "value is too long"


def test_a_full_token_is_carried_through():
    provided = token(
        "x" * 36,
        [1],
        id_token={
            "value": "~ " + "x" * 34,
            "type": "eMAID",
            "additional_info": [{"value": "\u00fc" * 36, "type": "t" * 50}],
        },
        authorization_type="PlugAndCharge",
        request_id=-7,
        prevalidated=False,
        certificate="c\n" * 2750,
        iso15118CertificateHashData=[HASH] * 4,
        unknown={"members": ["are", "ignored"]},
    )
    charger = Charger(validators=(lambda provided: result(),))
    charger.ev(1)
    assert charger.provide(provided) is None
    assert charger.last("Processing") == provided
    assert charger.last("Accepted") == provided
    assert charger.last("UsedToStart") == provided
    assert charger.commands == [("authorize_response", 1, provided, result())]


def test_a_malformed_validation_result_counts_as_unknown():
    for wrong in WRONG_RESULTS:
        charger = Charger(validators=(lambda provided, wrong=wrong: wrong,))
        charger.ev(1)
        charger.swipe(T1, [1])
        assert charger.letters() == "PR", wrong
        assert charger.commands[0][3]["authorization_status"] == "Unknown"
        assert charger.counter("refused_results") == 1
        assert charger.counter("validator_failures") == 1


def test_a_result_without_tariff_messages_is_taken():
    charger = Charger(validators=(lambda provided: {"authorization_status": "Accepted"},))
    charger.ev(1)
    charger.swipe(T1, [1])
    assert charger.letters() == "PAS"
    assert charger.commands[0][3] == result()


def test_a_malformed_update_changes_nothing():
    charger = started()
    wrong = [None, [], {}, {"connector_id": 1}, {"validation_result": result()}]
    wrong.append({"connector_id": True, "validation_result": result()})
    wrong.append({"connector_id": 1.0, "validation_result": result()})
    for bad in WRONG_RESULTS:
        wrong.append({"connector_id": 1, "validation_result": bad})
    for update in wrong:
        assert charger.auth.validation_result_update(update, charger.now), update
    assert charger.auth.take_effects() == ()
    assert charger.counter("refused_updates") == len(wrong)


def test_a_malformed_withdrawal_changes_nothing():
    charger = Charger()
    charger.ev(1)
    charger.swipe(T1, [1])
    charger.swipe(T2, [1, 2])
    charger.forget()
    wrong = [
        None,
        [],
        "x",
        5,
        {"evseId": 1},
        {"evse_id": None},
        {"evse_id": True},
        {"evse_id": 1.7},
        {"evse_id": 1.0},
        {"evse_id": "1"},
        {"evse_id": 1, "id_token": None},
    ]
    for bad in WRONG_ID_TOKENS:
        wrong.append({"id_token": bad})
        wrong.append({"evse_id": 1, "id_token": bad})
    for request in wrong:
        assert charger.auth.withdraw(request, charger.now) == "Rejected", request
    assert charger.auth.take_effects() == ()
    assert charger.counter("refused_withdrawals") == len(wrong)
    # Unknown members beside a known one are ignored.
    assert charger.withdraw(evse_id=1, evseId=2) == "Accepted"


def test_a_malformed_event_changes_nothing():
    charger = Charger()
    wrong = [
        None,
        [],
        "SessionStarted",
        {},
        {"event": 5},
        {"event": None},
        {"event": "SessionStarted"},
        {"event": "SessionStarted", "session_started": {}},
        {"event": "SessionStarted", "session_started": {"reason": "Magic"}},
        {"event": "TransactionStarted", "connector_id": "1"},
        {"event": "TransactionStarted", "connector_id": True},
        {"event": "TransactionStarted", "connector_id": None},
    ]
    for event in wrong:
        assert charger.auth.session_event(1, event, 0), event
    for evse_id in (0, -1, 3, True, "1", None, 1.0):
        assert charger.auth.session_event(evse_id, {"event": "TransactionStarted"}, 0)
    assert charger.counter("refused_events") == len(wrong) + 7
    charger.swipe(T1)
    assert charger.letters() == "PA"
    assert charger.event(1, "AnythingElse") is None


def test_the_limits_of_the_commands():
    charger = Charger()
    for seconds in (9, 301, 0, -10, True, 10.0, "10", None):
        assert charger.auth.set_connection_timeout(seconds, 0) is False
    for group in (None, 5, "g" * 37, "a\0", "\u00fc", ["g"]):
        assert charger.auth.set_master_pass_group_id(group, 0) is False
    assert charger.auth.take_effects() == ()
    assert charger.counter("refused_settings") == 14
    for seconds in (10, 300):
        assert charger.auth.set_connection_timeout(seconds, 0) is True
    for group in ("g" * 36, ""):
        assert charger.group(group) is True
    assert charger.saved == [
        ("connection_timeout", 10),
        ("connection_timeout", 300),
        ("master_pass_group_id", "g" * 36),
        ("master_pass_group_id", ""),
    ]


def refusal(connectors=(1,), validators=1, **values):
    """What the ValueError says, or "" when there is none."""
    from tapauth.core.authorizer import Authorizer

    try:
        settings = AuthSettings(**with_members({"connection_timeout": 60}, **values))
        Authorizer(settings, list(connectors), validators)
    except ValueError as error:
        return str(error)
    return ""


def test_what_checks_settings_is_not_kept():
    AuthSettings(connection_timeout=60).check()
    assert "tapauth.core.settings_check" not in sys.modules


def test_a_bad_setting_is_named():
    assert refusal() == ""
    wrong = (
        ("selection_algorithm", ("UserInput", "findfirst", None, 1)),
        ("connection_timeout", (None, 0, 301, True, "60", 60.0)),
        ("master_pass_group_id", (None, "g" * 37, "\u00fc", 5)),
        ("max_tokens_in_process", (0, 33, None, True)),
        ("validator_timeout_ms", (99, 300_001, None)),
        ("prioritize_authorization_over_stopping_transaction", (None, 1, "true")),
        ("ignore_connector_faults", (0,)),
        ("plug_in_timeout_enabled", ("no",)),
        ("stop_transaction_on_reswipe", (None,)),
        ("accept_expiry_without_clock", (1,)),
        ("no_such_setting", (1,)),
    )
    for key, values in wrong:
        for value in values:
            assert refusal(**{key: value}).startswith(key + ":"), (key, value)
    for connectors in ((), (1,) * 9, (0,), (5,), (1, True), ("1",)):
        assert refusal(connectors).startswith("connectors:"), connectors
    for validators in (-1, 129, True, None):
        assert refusal(validators=validators).startswith("validators:")
    assert refusal((4,) * 8, 128) == ""


def test_the_defaults_are_everests():
    settings = AuthSettings()
    assert settings.selection_algorithm == "FindFirst"
    assert settings.connection_timeout is None
    assert settings.master_pass_group_id == ""
    assert settings.prioritize_authorization_over_stopping_transaction is True
    assert settings.stop_transaction_on_reswipe is True
    for key in ("ignore_connector_faults", "plug_in_timeout_enabled"):
        assert getattr(settings, key) is False
    assert settings.accept_expiry_without_clock is False


def test_rfc_3339_times():
    for text, seconds in (
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:01Z", 1),
        ("2026-12-31T23:00:00Z", 1798758000),
        ("2026-12-31T23:00:00.999999999Z", 1798758000),
        ("2027-01-01T01:30:00+02:30", 1798758000),
        ("2026-12-31T18:00:00-05:00", 1798758000),
        ("2026-12-31T23:00:00-00:00", 1798758000),
        ("2000-02-29T00:00:00Z", 951782400),
        ("2000-03-01T00:00:00Z", 951868800),
        ("2024-02-29T12:00:00Z", 1709208000),
        ("2016-12-31T23:59:60Z", 1483228800),
        ("2100-03-01T00:00:00Z", 4107542400),
        ("1969-12-31T23:59:59Z", -1),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("0001-01-01T00:00:00Z", -62135596800),
    ):
        assert parse_rfc3339(text) == seconds, text


def test_what_is_no_rfc_3339_time():
    for text in (
        None,
        0,
        "",
        "2026-12-31",
        "2026-12-31T23:00:00",
        "2026-12-31T23:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00+01:00Z",
        "2026-01-01T00:00:00ZZ",
        "2026-01-01T00:00:00Z ",
        " 2026-01-01T00:00:00Z",
        "2026/01/01T00:00:00Z",
        "2026-01-01X00:00:00Z",
        "+026-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-1-01T00:00:00ZZ",
        "2026-01-01T00:00:00." + "0" * 60 + "Z",
        "\u0662\u0660\u0662\u0666-01-01T00:00:00Z",
    ):
        assert parse_rfc3339(text) is None, text
