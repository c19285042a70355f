"""Run by test_rpc_mqtt.py under MicroPython: the auth service behind the real link.

Arguments: the broker's port, and the folder that is the board's flash, with a slash.
"""

import asyncio
import gc
import os
import sys

from tapauth.compat import Clock, unix_time
from tapauth.config import parse
from tapauth.link.mqtt import Link
from tapauth.log import DEBUG, Log
from tapauth.rpc.over_mqtt import MqttRpc
from tapauth.rpc.setup import open_service
from tapauth.small_file import Flash

SETTINGS = {
    "address": "//api.cesanta.com/cloud.registry",
    "backend_id": "//api.cesanta.com/cloud",
    "backend_key": "the backend's own key",
    "tokens_backend_only": False,
    "tokens_as_psk": False,
}

gc.threshold(8192)  # as boot.py does on a board
port, folder = sys.argv[1:]
config = parse('{"board_id": "b1", "mqtt": {"host": "127.0.0.1", "port": %s}}' % port)  # noqa: UP031
clock = Clock()
log = Log(clock, b"key", DEBUG)
service = open_service(SETTINGS, Flash, clock, unix_time, os.urandom, log, folder)
link = Link(
    config["mqtt"],
    clock,
    log,
    lambda topic, payload, retained: adapter.message(topic, payload),
    lambda: print("up"),
)
adapter = MqttRpc(service, link, config["base_topic"])
for name in adapter.subscriptions:
    link.subscribe(name)
assert not adapter.message("another/topic", b"{}")
asyncio.run(link.run(lambda: None))
