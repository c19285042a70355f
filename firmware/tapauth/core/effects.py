"""The effects of the authorization core: tuples, the first element one of these.

The dicts and lists in them are shared and must not be changed.

    (STATUS, token, status, messages)                     publish a TokenValidationStatusMessage
    (AUTHORIZE_RESPONSE, evse_id, token, result)          tell an EVSE; only Accepted authorizes it
    (WITHDRAW_AUTHORIZATION, evse_id)
    (STOP_TRANSACTION, evse_id, reason, token or None)
    (VALIDATE, request_id, validator_index, token)        answer with validation_result()
    (SAVE, key, value)                                    a setting that must outlive a reboot
"""

from tapauth.compat import const

STATUS = "status"
AUTHORIZE_RESPONSE = "authorize_response"
WITHDRAW_AUTHORIZATION = "withdraw_authorization"
STOP_TRANSACTION = "stop_transaction"
VALIDATE = "validate"
SAVE = "save"

# How much a message about an effect matters when not all can be kept until somebody takes them.
PROGRESS = const(-1)
"""A status that another one follows."""
ORDINARY = const(0)
"""What became of a token that changed nothing."""
LASTING = const(1)
"""An authorization, and what became of a token that did something."""
REFUSAL = const(2)
WITHDRAWAL = const(3)
"""From here on: never lost. For one receiver the newest of a kind stands for those before."""
STOP = const(4)
