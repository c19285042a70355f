"""The effects of the authorization core: tuples, the first element one of these.

The dicts and lists in them are shared and must not be changed.

    (STATUS, token, status, messages)                     publish a TokenValidationStatusMessage
    (AUTHORIZE_RESPONSE, evse_id, token, result)          tell an EVSE; only Accepted authorizes it
    (WITHDRAW_AUTHORIZATION, evse_id)
    (STOP_TRANSACTION, evse_id, reason, token or None)
    (VALIDATE, request_id, validator_index, token)        answer with validation_result()
    (SAVE, key, value)                                    a setting that must outlive a reboot
"""

STATUS = "status"
AUTHORIZE_RESPONSE = "authorize_response"
WITHDRAW_AUTHORIZATION = "withdraw_authorization"
STOP_TRANSACTION = "stop_transaction"
VALIDATE = "validate"
SAVE = "save"
