"""An MQTT broker inside this process, for machines that have none."""

import asyncio
import contextlib
import logging
import os
import random
import selectors
import socket
import threading

from amqtt.broker import Broker

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)
"""Below those from which outgoing connections are made: none of them can have taken one of these
when its owner comes to listen on it, or listens again.
"""


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on now."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


class EmbeddedBroker:
    """amqtt on loopback, in a thread of its own. A context manager; `port` is a free one unless
    given. Raises RuntimeError when it does not start.
    """

    def __init__(self, port: int | None = None):
        self.port = port or free_port()
        self._thread: threading.Thread | None = None
        self._broker: Broker | None = None

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        """Start listening; returns when clients can connect."""
        # A client that goes away without a goodbye is no news here.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        except Exception as error:
            raise RuntimeError(f"the embedded broker did not start: {error}") from error

    async def _start(self) -> None:
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self.port}"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        await self._broker.start()

    def stop(self) -> None:
        """Drop all clients and stop listening; start() begins afresh on the same port."""
        if self._thread is None or self._broker is None:
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._end(self._broker), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._shut_sockets()
        if not self._thread.is_alive():
            self._loop.close()
        self._thread = None

    async def _end(self, broker: Broker) -> None:
        # It waits for ever now and then: for the end of a client's reader that has ended before.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(broker.shutdown(), 5)
        # It leaves tasks that wait for its clients. Later the collector would end them, with an
        # error wherever it happens to run: in the middle of somebody's ast.parse(), too.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=5)

    def _shut_sockets(self) -> None:
        """End what a shutdown that did not come to its end has left: it would keep the port."""
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(key.fd)) as left:
                left.shutdown(socket.SHUT_RDWR)
