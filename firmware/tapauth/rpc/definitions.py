"""The commands, in one table: their definitions and the checks of their arguments come from it.

Loaded when needed and unloaded again: its texts are large.
"""

from tapauth.rpc.arguments import ANYONE, BACKEND, OWNER

# A shape is (doc, JSON type, members); members are (name, shape) pairs: of an object, or of the
# objects in an array.
_TEXT = ("", "string", ())
_HOST = (("host", ("Hostname of the app.", "string", ())),)
_TOKEN_DOC = "Returns auth token for the given app."
_CREDENTIALS_DOC = (
    "Credentials presented by the entity. At least one of `psk` or `cert` must be present."
)
_DEVICE = ("ID of the device.", "string", ())
_PSK = ("Pre-shared key that the device will authenticate with.", "string", ())
_CERT = ("Certificate that the device will authenticate with, PEM or base64.", "string", ())

# name: (who, doc, arguments, names of the required ones, shape of the result or None)
COMMANDS = {
    "/v1/Auth.GenerateToken": (
        OWNER,
        _TOKEN_DOC,
        _HOST,
        ("host",),
        ("", "object", (("token", _TEXT),)),
    ),
    "/v1/Auth.Authenticate": (
        BACKEND,
        "Authenticate returns true if `id` is verified to have valid credentials.",
        (
            (
                "credentials",
                (
                    _CREDENTIALS_DOC,
                    "object",
                    (("psk", _TEXT), ("cert", _TEXT)),
                ),
            ),
            ("id", ("ID of an entity to authenticate.", "string", ())),
        ),
        ("id", "credentials"),
        ("`true` if credentials are valid, `false` otherwise.", "boolean", ()),
    ),
    "/v1/Auth.ListToken": (
        OWNER,
        "Returns the list of apps for which tokens were generated.",
        (),
        (),
        ("", "array", (("host", _TEXT),)),
    ),
    "/v1/Auth.AuthorizeCommand": (
        BACKEND,
        "AuthorizeCommand returns true if `src` is allowed to send a given command to `dst`.",
        (
            ("src", ("ID of the command sender.", "string", ())),
            ("dst", ("ID of the command recipient.", "string", ())),
            ("cmd", ("Command name.", "string", ())),
        ),
        ("src", "dst", "cmd"),
        ("`true` if the command is allowed, `false` otherwise.", "boolean", ()),
    ),
    "/v1/Auth.RevokeToken": (
        OWNER,
        "Revokes auth token for the given app.",
        _HOST,
        ("host",),
        None,
    ),
    "/v1/Auth.GetToken": (
        OWNER,
        _TOKEN_DOC,
        _HOST,
        ("host",),
        (
            "",
            "object",
            (
                ("token", ("Token value. Not present if `exist` is `false`.", "string", ())),
                (
                    "exist",
                    ("`true` if token for the app was generated previously.", "boolean", ()),
                ),
            ),
        ),
    ),
    "/v1/Device.Add": (
        BACKEND,
        "Adds a device or replaces its credentials. At least one of `psk` or `cert` is needed.",
        (("deviceid", _DEVICE), ("psk", _PSK), ("cert", _CERT)),
        ("deviceid",),
        None,
    ),
    "/v1/Device.Delete": (
        BACKEND,
        "Removes a device and its credentials.",
        (("deviceid", _DEVICE),),
        ("deviceid",),
        None,
    ),
    "/v1/Hello": (ANYONE, "Answers `HAI` to an authenticated caller.", (), (), _TEXT),
    "/v1/Services.List": (
        ANYONE,
        "Returns definitions of all services provided by the server.",
        (),
        (),
        ("Property names are full service names, values their definitions.", "object", ()),
    ),
}


def checks() -> dict:
    """What arguments.check() needs of each command, by its name: the table without its texts."""
    return {
        name: (
            who,
            required,
            tuple((arg, shape[1], tuple(member[0] for member in shape[2])) for arg, shape in args),
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
