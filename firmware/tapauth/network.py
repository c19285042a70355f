"""Keeps the board on its network: brings it up, watches it, and brings it back."""

from tapauth.compat import const, sleep_ms

_WATCH_MS = const(1000)


class Network:
    """`board` is the board's module, `config` the checked section "network", `backoff` gives the
    milliseconds to wait after a failure. `outages` counts how often the network was lost.
    """

    def __init__(self, board, config: dict, log, backoff):
        self.outages = 0
        self._board = board
        self._config = config
        self._log = log
        self._backoff = backoff

    async def run(self, beat) -> None:
        """For ever. One attempt may take as long as the board's connect_network()."""
        board = self._board
        while True:
            beat()
            try:
                await board.connect_network(self._config)
            except OSError as error:
                wait = self._backoff.next()
                reason = error.args[-1] if error.args else "failed"
                self._log.warning("network", "{}; again in {} ms", reason, wait)
                while wait > 0:
                    beat()
                    await sleep_ms(min(wait, _WATCH_MS))
                    wait -= _WATCH_MS
                continue
            self._backoff.reset()
            self._log.info("network", "up")
            while board.network_up():
                beat()
                await sleep_ms(_WATCH_MS)
            self.outages += 1
            self._log.warning("network", "lost")
