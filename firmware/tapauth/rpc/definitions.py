"""The commands, in one table: their definitions and the checks of their arguments come from it.

Loaded when needed and unloaded again: its texts are large.
"""

from tapauth.rpc.arguments import ANYONE, BACKEND, OWNER

# A shape is (doc, JSON type, members); members are (name, shape) pairs: of an object, or of the
# objects in an array.


def _shape(kind: str, doc: str = "", members: tuple = ()) -> tuple:
    return doc, kind, members


def _text(doc: str = "") -> tuple:
    return _shape("string", doc)


def _command(who: int, doc: str, args=(), required=(), result=None) -> tuple:
    """A row of COMMANDS. `args` are (name, shape) pairs, `required` are names of some of them, and
    `result` is a shape or None.
    """
    return who, doc, args, required, result


_HOST = (("host", _text("Hostname of the app.")),)
_TOKEN_DOC = "Returns auth token for the given app."
_CREDENTIALS_DOC = (
    "Credentials presented by the entity. At least one of `psk` or `cert` must be present."
)
_DEVICE = _text("ID of the device.")
_PSK = _text("Pre-shared key that the device will authenticate with.")
_CERT = _text("Certificate that the device will authenticate with, PEM or base64.")

COMMANDS = {
    "/v1/Auth.GenerateToken": _command(
        OWNER,
        _TOKEN_DOC,
        args=_HOST,
        required=("host",),
        result=_shape("object", members=(("token", _text()),)),
    ),
    "/v1/Auth.Authenticate": _command(
        BACKEND,
        "Authenticate returns true if `id` is verified to have valid credentials.",
        args=(
            (
                "credentials",
                _shape("object", _CREDENTIALS_DOC, (("psk", _text()), ("cert", _text()))),
            ),
            ("id", _text("ID of an entity to authenticate.")),
        ),
        required=("id", "credentials"),
        result=_shape("boolean", "`true` if credentials are valid, `false` otherwise."),
    ),
    "/v1/Auth.ListToken": _command(
        OWNER,
        "Returns the list of apps for which tokens were generated.",
        result=_shape("array", members=(("host", _text()),)),
    ),
    "/v1/Auth.AuthorizeCommand": _command(
        BACKEND,
        "AuthorizeCommand returns true if `src` is allowed to send a given command to `dst`.",
        args=(
            ("src", _text("ID of the command sender.")),
            ("dst", _text("ID of the command recipient.")),
            ("cmd", _text("Command name.")),
        ),
        required=("src", "dst", "cmd"),
        result=_shape("boolean", "`true` if the command is allowed, `false` otherwise."),
    ),
    "/v1/Auth.RevokeToken": _command(
        OWNER, "Revokes auth token for the given app.", args=_HOST, required=("host",)
    ),
    "/v1/Auth.GetToken": _command(
        OWNER,
        _TOKEN_DOC,
        args=_HOST,
        required=("host",),
        result=_shape(
            "object",
            members=(
                ("token", _text("Token value. Not present if `exist` is `false`.")),
                (
                    "exist",
                    _shape("boolean", "`true` if token for the app was generated previously."),
                ),
            ),
        ),
    ),
    "/v1/Device.Add": _command(
        BACKEND,
        "Adds a device or replaces its credentials. At least one of `psk` or `cert` is needed.",
        args=(("deviceid", _DEVICE), ("psk", _PSK), ("cert", _CERT)),
        required=("deviceid",),
    ),
    "/v1/Device.Delete": _command(
        BACKEND,
        "Removes a device and its credentials.",
        args=(("deviceid", _DEVICE),),
        required=("deviceid",),
    ),
    "/v1/Hello": _command(ANYONE, "Answers `HAI` to an authenticated caller.", result=_text()),
    "/v1/Services.List": _command(
        ANYONE,
        "Returns definitions of all services provided by the server.",
        result=_shape(
            "object", "Property names are full service names, values their definitions."
        ),
    ),
}


def checks() -> dict:
    """What arguments.check() needs of each command, by its name: the table without its texts."""
    return {
        name: (
            who,
            required,
            tuple(
                (arg, kind, tuple([member for member, _ in members]))
                for arg, (_, kind, members) in args
            ),
        )
        for name, (who, _, args, required, _) in COMMANDS.items()
    }


def _schema(shape: tuple) -> dict:
    doc, kind, members = shape
    schema: dict = {"type": kind}
    if doc:
        schema["doc"] = doc
    if members:
        properties = {name: _schema(member) for name, member in members}
        if kind == "array":
            schema["items"] = {"type": "object", "properties": properties}
        else:
            schema["properties"] = properties
    return schema


def definition(command: tuple) -> dict:
    """The JSON definition of a row of COMMANDS, in the form of the service's document."""
    _, doc, args, required, result = command
    schema: dict = {"doc": doc}
    if args:
        schema["args"] = {name: _schema(shape) for name, shape in args}
    if required:
        schema["required_args"] = list(required)
    if result:
        schema["result"] = _schema(result)
    return schema


def services() -> dict:
    """Definitions of all commands: service name to {"methods": {name: definition}}."""
    found: dict = {}
    for name, command in COMMANDS.items():
        service, _, method = name.rpartition("/" if name.count(".") == 0 else ".")
        found.setdefault(service, {"methods": {}})["methods"][method] = definition(command)
    return found
