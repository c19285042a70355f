"""Settings of the authorization core."""

from tapauth.compat import forget, late


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
        # Needed once, at the start.
        with late("settings_check"):
            from tapauth.core import settings_check

        forget(settings_check)
        settings_check.check(self)
