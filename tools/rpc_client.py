"""Ask the board's auth service over MQTT.

    python -m tools.rpc_client --base tapauth/garage --src //example.com/cloud Hello
    python -m tools.rpc_client ... Authenticate id=//example.com/dev credentials.psk=qwerty
    python -m tools.rpc_client ... /v1/Device.Add '{"deviceid": "//example.com/dev", "psk": "..."}'

A name without a slash gets its prefix: `/v1/` before Hello and before names with a dot, else
`/v1/Auth.`. Arguments are name=value (text; a dot reaches into an object), or one JSON object.
The key of --src comes from --key-file, or from the environment variable TAPAUTH_RPC_KEY.

Exit status: 0 the command was handled (the result is printed as JSON), 1 it was answered with an
error status, 2 wrong usage, 3 no answer.
"""

import argparse
import json
import os
import queue
import random
import sys
import time
from pathlib import Path

import paho.mqtt.client as paho

from tapauth.rpc import addresses

HANDLED, ERROR, USAGE, SILENCE = 0, 1, 2, 3


class UsageError(ValueError):
    """The command line makes no sense; the text says why."""


def full_name(name: str) -> str:
    """The command's name on the wire."""
    if "/" in name:
        return name
    return "/v1/" + name if name == "Hello" or "." in name else "/v1/Auth." + name


def arguments(words: list[str]) -> dict:
    """The `args` object of name=value words, or of one JSON object. Raises UsageError."""
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        try:
            return json.loads(words[0])
        except ValueError as error:
            raise UsageError(f"{words[0]}: no JSON object ({error})") from error
    result: dict = {}
    for word in words:
        path, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{word}: must be name=value")
        inner = result
        *outer, name = path.split(".")
        for key in outer:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise UsageError(f"{word}: {key} is text already")
        inner[name] = value
    return result


def request(version: int, number: int, name: str, args: dict, options: argparse.Namespace) -> dict:
    """A frame with one command."""
    frame = {"v": version, "src": options.src}
    if options.dst:
        frame["dst"] = options.dst
    if options.key:
        frame["key"] = options.key
    command: dict = {"id": number, "timeout": options.timeout}
    if args:
        command["args"] = args
    if version == 1:
        return {**frame, "cmds": [{"cmd": name, **command}]}
    return {**frame, "method": name, **command}


def answer(frame: object, number: int) -> tuple[int, object] | None:
    """(status, result or message) of the response to `number` in a frame, None if it has none."""
    if not isinstance(frame, dict):
        return None
    entries = frame.get("resp")
    if isinstance(entries, list):
        for entry in entries:
            if isinstance(entry, dict) and entry.get("id") == number:
                status = entry.get("status", 0)
                # Some services call the payload `response`.
                value = entry.get("resp", entry.get("response"))
                return status, entry.get("status_msg") if status else value
    elif frame.get("id") == number:
        error = frame.get("error")
        if isinstance(error, dict):
            return error.get("code", 1), error.get("message")
        return 0, frame.get("result")
    return None


class Client:
    """A connection to the broker, subscribed to the replies for `src`.

    Raises OSError, and ValueError for a `src` that is no address.
    """

    def __init__(self, host: str, port: int, base: str, src: str, user=None, password=None):
        self._topic = base + "/rpc"
        self._replies = f"{self._topic}/reply/{addresses.quote(addresses.parse(src)[0])}"
        self._frames: queue.Queue[object] = queue.Queue()
        self._ready: queue.Queue[None] = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe(self._replies, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.put(None)
        self._client.on_message = self._take
        self._client.connect(host, port)
        self._client.loop_start()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        try:
            self._frames.put(json.loads(message.payload))
        except ValueError:
            pass

    def ask(self, frame: dict, number: int, timeout: float) -> tuple[int, object] | None:
        """Send a frame; (status, result or message) of the answer, None if there is none."""
        deadline = time.monotonic() + timeout
        try:
            self._ready.get(timeout=timeout)
            self._ready.put(None)
            self._client.publish(self._topic, json.dumps(frame), qos=1)
            while True:
                left = max(deadline - time.monotonic(), 0)
                found = answer(self._frames.get(timeout=left), number)
                if found:
                    return found
        except queue.Empty:
            return None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about, _, more = (__doc__ or "").partition("\n\n")
    line = argparse.ArgumentParser(
        prog="python -m tools.rpc_client",
        description=about,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    line.add_argument("--broker", default="127.0.0.1:1883", help="host:port (%(default)s)")
    line.add_argument("--user", help="for the broker; its password: TAPAUTH_MQTT_PASSWORD")
    line.add_argument("--base", default="tapauth/desktop", help="base topic (%(default)s)")
    line.add_argument("--src", required=True, help="who asks: //host/path[.component]")
    line.add_argument("--dst", help="the board's address; whoever is there when left out")
    line.add_argument("--key-file", type=Path, help="file with the key of --src")
    line.add_argument("--frame", type=int, choices=(1, 2), default=1, help="version of the frame")
    line.add_argument("--timeout", type=float, default=10, help="seconds (%(default)s)")
    line.add_argument("command", help="Authenticate, GetToken, Hello, Services.List, ...")
    line.add_argument("args", nargs="*", help="name=value, or one JSON object")
    return line


def main(words: list[str]) -> int:
    """Run one command. Returns the exit status."""
    options = parser().parse_args(words)
    try:
        args = arguments(options.args)
        host, _, port = options.broker.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"{options.broker}: must be host:port")
        options.key = os.environ.get("TAPAUTH_RPC_KEY", "")
        if options.key_file:
            options.key = options.key_file.read_text().strip()
        addresses.parse(options.src)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return USAGE
    # The stock clients start at random too: an answer to an earlier run must not fit.
    number = random.randrange(1, 2**53)
    frame = request(options.frame, number, full_name(options.command), args, options)
    password = os.environ.get("TAPAUTH_MQTT_PASSWORD")
    try:
        with Client(host, int(port), options.base, options.src, options.user, password) as client:
            found = client.ask(frame, number, options.timeout)
    except OSError as error:
        print(f"no connection to {options.broker}: {error}", file=sys.stderr)
        return SILENCE
    if found is None:
        print(f"no answer within {options.timeout:g} s", file=sys.stderr)
        return SILENCE
    status, value = found
    if status:
        print(f"status {status}: {value}", file=sys.stderr)
        return ERROR
    print("done" if value is None else json.dumps(value, indent=2, ensure_ascii=False))
    return HANDLED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
