"""The frame codec: version 1 (`cmds`, `resp`) and version 2 (`method`, `result`) in one model.

Theory of operation. A frame is JSON. parse() makes a Frame of it, command() takes one element of
`Frame.commands`, and entry() and reply() make the answer in the version of the frame; nothing else
of the service has to know that there are two.

                    version 1                       version 2
    commands        `cmds`, any number              `method`, one
    arguments       `args`                          `params`, or `args`
    id              1 to 2**53 - 1                  the same, or 1 to 64 characters
    no answer       without `id`                    without `id`, or with `nr`: true
    source          must be there                   may be the connection's
    answer          `resp`, an entry each           `result` or `error`, and the `tag` as it came
    a response      is not looked at                is not looked at: nobody here asks

The version is what `v` says, else the connection's, else what the members look like. A connection
stays with its first one: another version ends the connection (1002).

The strict reading wins: a frame that could be read in two ways, as one of version 2 that is a
request and a response at once, is Invalid and gets no answer, because nobody knows what its sender
would make of one. The texts of Invalid quote nothing: a frame may hold keys.
"""

import json

from tapauth.compat import const
from tapauth.json_in import load

_MAX_NUMBER = const(9007199254740991)  # 2**53 - 1
_MAX_TEXT_ID = const(64)
_MAX_TAG_DEPTH = const(8)
_COMPACT = (",", ":")


class Invalid(Exception):
    """A frame that nobody answers. The text says why and quotes nothing of it.

    `close` is the WebSocket status to close a connection with, 0 to leave it open.
    """

    def __init__(self, reason: str, close: int = 0):
        super().__init__(reason)
        self.close = close


class Frame:
    """`src`, `dst` and `tag` as they came or None, `key` of any type; `commands` unchecked."""

    def __init__(self, version: int, message: dict, commands: list):
        self.version = version
        self.src = message.get("src")
        self.dst = message.get("dst")
        self.key = message.get("key")
        self.tag = message.get("tag")
        self.commands = commands


def _too_deep(value, depth: int) -> bool:
    """Whether a value is nested too deep, or has a number that JSON cannot tell again."""
    if type(value) is dict:
        value = list(value.values())
    if type(value) is not list:
        return type(value) is float and value - value != 0
    return depth == 0 or any(_too_deep(item, depth - 1) for item in value)


def parse(data, version: int = 0) -> Frame:
    """Read a frame (bytes or text). `version` is that of the connection, 0 while it is open.

    Raises Invalid.
    """
    # Nothing is raised from inside an except: MicroPython prints a warning for each `from`.
    # The text of the error is left behind: it may quote the frame.
    message = None
    try:
        message = load(data)
    except ValueError:
        pass
    if type(message) is not dict:
        raise Invalid("no JSON object")
    if "v" in message:
        given = message["v"]
        if type(given) is not int or given not in (1, 2):
            raise Invalid("unknown version")
        # Answers in another version would be none that the peer looks for.
        if version and given != version:
            raise Invalid("version of another connection", 1002)
    elif version:
        given = version
    else:
        given = 1 if "cmds" in message or "resp" in message else 2
    # Version 1 frames without a source are dropped; in version 2 the connection may tell it.
    if type(message.get("src")) is not str and (given == 1 or "src" in message):
        raise Invalid("no source")
    if "dst" in message and type(message["dst"]) is not str:
        raise Invalid("bad destination")
    if given == 1:
        return Frame(1, message, _commands_v1(message))
    # It goes back as it came, so it must be as good to tell as it was to read.
    if _too_deep(message.get("tag"), _MAX_TAG_DEPTH):
        raise Invalid("tag nested too deep")
    return Frame(2, message, _commands_v2(message))


def _commands_v1(message: dict) -> list:
    for name in ("resp", "cmds"):
        if name in message and type(message[name]) is not list:
            raise Invalid(name + " is no array")
    # Nobody here asks, so there is nothing that a response could be matched with.
    if not message.get("cmds") and not message.get("resp"):
        raise Invalid("no commands or responses")
    return message.get("cmds", [])


def _commands_v2(message: dict) -> list:
    answer = "result" in message or "error" in message
    if "method" in message:
        if answer:
            raise Invalid("a request and a response at once")
    elif answer or "id" in message:
        return []  # a response, of which the result may be left out
    else:
        raise Invalid("no request or response")
    command = {"cmd": message["method"]}
    for name in ("id", "timeout", "deadline"):
        if name in message:
            command[name] = message[name]
    # `args` is the name in version 1, `params` that of JSON-RPC; a client may send either.
    for name in ("params", "args"):
        if name in message:
            command["args"] = message[name]
    if message.get("nr") is True:
        command.pop("id", None)
    return [command]


def command(frame: Frame, element) -> tuple:
    """(id, name) of one element of `frame.commands`; id None: a notification. Raises Invalid."""
    if type(element) is not dict or type(element.get("cmd")) is not str:
        raise Invalid("malformed command")
    if "id" not in element:
        return None, element["cmd"]
    number = element["id"]
    # Not isinstance: True is no id.
    if type(number) is int:
        right = 1 <= number <= _MAX_NUMBER
    else:
        right = frame.version == 2 and type(number) is str and 1 <= len(number) <= _MAX_TEXT_ID
    if not right:
        raise Invalid("malformed id")
    return number, element["cmd"]


def _text(value) -> str:
    return json.dumps(value, separators=_COMPACT)


def entry(version: int, number, status: int, value) -> str:
    """One response: `value` is the result (None for none), or the message of an error status."""
    head = f'"id":{_text(number)}'
    if version == 1:
        head = f'{{{head},"status":{status}'
        if status:
            return f'{head},"status_msg":{_text(value)}}}'
        return head + "}" if value is None else f'{head},"resp":{_text(value)}}}'
    if status:
        return f'{head},"error":{{"code":{status},"message":{_text(value)}}}'
    return head if value is None else f'{head},"result":{_text(value)}'


def reply(frame: Frame, src: str, entries: list) -> str:
    """The frame that answers `frame` with what entry() gave; `src` is sent when it named none."""
    head = f'{{"v":{frame.version},"src":{_text(frame.dst or src)}'
    if frame.src is not None:
        head += f',"dst":{_text(frame.src)}'
    if frame.version == 1:
        return f'{head},"resp":[{",".join(entries)}]}}'
    if frame.tag is not None:
        head += f',"tag":{_text(frame.tag)}'
    return f"{head},{entries[0]}}}"
