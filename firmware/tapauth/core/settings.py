"""Settings of the authorization core."""

from tapauth.core.tokens import check_master_pass_group_id

ALGORITHMS = ("FindFirst", "PlugEvents", "PlugEventsLIFO")
_SWITCHES = (
    "prioritize_authorization_over_stopping_transaction",
    "ignore_connector_faults",
    "plug_in_timeout_enabled",
    "stop_transaction_on_reswipe",
    "accept_expiry_without_clock",
)


class AuthSettings:
    """What the operator configures, with EVerest's names and defaults.

    Settings may be given by keyword; raises ValueError for a keyword that is none. Values are
    judged by check().
    """

    def __init__(self, **values):
        self.selection_algorithm = "FindFirst"
        """FindFirst, PlugEvents or PlugEventsLIFO. UserInput needs a display and is refused."""
        self.connection_timeout: int | None = None
        """Seconds, 1..300, no default: life of a grant until a transaction starts, longest wait
        for a plug-in, and plug-in timeout. The command that changes it allows 10..300."""
        self.master_pass_group_id = ""
        """Parent id whose tokens stop every transaction and start none; empty: no such group."""
        self.prioritize_authorization_over_stopping_transaction = True
        """Whether a token looks for a free EVSE before its parent id stops a transaction."""
        self.ignore_connector_faults = False
        self.plug_in_timeout_enabled = False
        """Whether a plug-in that nobody authorizes lapses. Only with more than one EVSE."""
        self.stop_transaction_on_reswipe = True
        """False: the token of a transaction, or its parent's, is reported and stops nothing."""
        self.accept_expiry_without_clock = False
        """Whether an entry with an expiry counts while the time of day is unknown."""
        self.max_tokens_in_process = 8
        """Tokens that may wait for a validator or a plug-in at once, 1..32; more are Rejected."""
        self.validator_timeout_ms = 5000
        """How long one validator may take, 100..300000 ms; then it counts as Unknown. A driver
        stands in front of the reader meanwhile, so this is far below EVerest's 300 s."""
        for key in values:
            if not hasattr(self, key):
                raise ValueError(key + ": no such setting")
            setattr(self, key, values[key])

    def check(self) -> None:
        """Raises ValueError naming the first setting of a value that cannot be."""
        if self.selection_algorithm not in ALGORITHMS:
            raise ValueError("selection_algorithm: must be one of " + ", ".join(ALGORITHMS))
        if check_master_pass_group_id(self.master_pass_group_id):
            raise ValueError("master_pass_group_id: at most 36 printable ASCII characters")
        for key, low, high in (
            ("connection_timeout", 1, 300),
            ("max_tokens_in_process", 1, 32),
            ("validator_timeout_ms", 100, 300_000),
        ):
            value = getattr(self, key)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{key}: must be an integer of {low}..{high}")
        for key in _SWITCHES:
            if type(getattr(self, key)) is not bool:
                raise ValueError(key + ": must be true or false")
