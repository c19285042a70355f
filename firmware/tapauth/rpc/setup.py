"""Puts the service together from the configuration and what is on flash; then unload it."""

import os

from tapauth.compat import const
from tapauth.mac import Mac
from tapauth.rpc import addresses, credentials, records, tokens
from tapauth.rpc.rules import RuleError, Rules
from tapauth.rpc.service import Service

_MAX_RULES = const(8192)


class Flash:
    """The board's file system, as records.RecordFile uses it."""

    def open(self, path: str, mode: str):
        return open(path, mode)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)


def _report(name: str, state: int, log) -> None:
    if state == records.PREVIOUS:
        log.error("rpc", "{} is damaged, the one before it serves", name)
    elif state == records.LOST:
        log.error("rpc", "{} is damaged and lost", name)


def _secret(file, random, log) -> bytes:
    """The board's own key: made once, then the same for ever."""
    kept = file.load()
    _report("rpc_key", file.state, log)
    if len(kept) == 1 and len(kept[0]) == 32:
        return kept[0]
    key = random(32)
    file.save([key])
    return key


def load_rules(rules: Rules, fs, path: str, log) -> None:
    """Put the rule file in force; the last good rules stay when it is bad."""
    try:
        with fs.open(path, "rb") as file:
            text = file.read(_MAX_RULES + 1)
    except OSError as error:
        if error.args[0] != 2:  # ENOENT: nobody wants any rules
            log.error("rpc", "{} cannot be read ({})", path, error)
            return
        text = b"[]"
    try:
        rules.load(text)
    except RuleError as error:
        log.error("rpc", "{} is refused, the last good rules stay: {}", path, str(error))


def open_service(settings: dict, fs, clock, unix_time, random, log, folder: str = "/"):
    """The Service for the checked section "rpc" of the configuration; None when it is off.

    `fs` is Flash or like it, `random(count)` gives bytes from the hardware's random generator:
    on a board that needs its radio for that, call this when the radio is up. The service's files
    are in `folder`, which ends with a slash. Raises ValueError and OSError.
    """
    if not settings["address"]:
        return None
    if settings["backend_key"] and len(settings["backend_key"]) < 16:
        raise ValueError("rpc.backend_key: shorter than 16 characters")
    own, _ = addresses.parse(settings["address"])
    backend, _ = addresses.parse(settings["backend_id"] or own[: own.find("/", 2)])
    settings = dict(settings)
    settings["backend_id"] = backend
    files = {}
    for name in ("key", "devices", "tokens", "rules"):
        files[name] = records.RecordFile(fs, folder + "rpc_" + name)
    mac = Mac(_secret(files["key"], random, log))
    devices = records.Table(files["devices"], credentials.DIGESTS, credentials.CAPACITY)
    apps = records.Table(files["tokens"], tokens.SERIAL, tokens.CAPACITY)
    rules = Rules(files["rules"])
    for name in ("devices", "tokens", "rules"):
        _report("rpc_" + name, files[name].state, log)
    load_rules(rules, fs, folder + "rules.json", log)
    return Service(
        settings,
        credentials.Credentials(devices, mac, backend, settings["backend_key"]),
        tokens.Tokens(apps, mac, random),
        rules,
        clock,
        unix_time,
        log,
    )
