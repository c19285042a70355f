"""EVerest's auth_token_provider API: others may hand the board tokens."""

from tapauth.compat import const, is_scarce
from tapauth.everest.module import ApiModule, BadMessage, load

KIND = "auth_token_provider"
_LONG = const(1024)


class AuthTokenProvider(ApiModule):
    """`station.provide_token(token)` takes the tokens, and says why it does not."""

    def __init__(self, module_id, settings, clock, link, errors, log, station):
        super().__init__(KIND, module_id, settings, clock, link, errors, log)
        self._station = station
        self.operations["provided_token"] = self._provided_token

    def _provided_token(self, payload: bytes) -> None:
        # A token waits for its validators, and several may wait: a word for each byte is what one
        # with a certificate takes until then.
        if len(payload) > _LONG and is_scarce(len(payload)):
            raise BadMessage("no memory for so long a token just now")
        refusal = self._station.provide_token(load(payload))
        if refusal:
            raise BadMessage(refusal)
