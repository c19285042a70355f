"""What the values of AuthSettings may be; needed once, at the start."""

from tapauth.core.choice import ALGORITHMS
from tapauth.core.shapes import check_master_pass_group_id

_SWITCHES = (
    "prioritize_authorization_over_stopping_transaction",
    "ignore_connector_faults",
    "plug_in_timeout_enabled",
    "stop_transaction_on_reswipe",
    "accept_expiry_without_clock",
)


def check(settings) -> None:
    """AuthSettings.check."""
    if settings.selection_algorithm not in ALGORITHMS:
        raise ValueError("selection_algorithm: must be one of " + ", ".join(ALGORITHMS))
    if check_master_pass_group_id(settings.master_pass_group_id):
        raise ValueError("master_pass_group_id: at most 36 printable ASCII characters")
    for key, low, high in (
        ("connection_timeout", 1, 300),
        ("max_tokens_in_process", 1, 32),
        ("validator_timeout_ms", 100, 300_000),
    ):
        value = getattr(settings, key)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{key}: must be an integer of {low}..{high}")
    for key in _SWITCHES:
        if type(getattr(settings, key)) is not bool:
            raise ValueError(key + ": must be true or false")
