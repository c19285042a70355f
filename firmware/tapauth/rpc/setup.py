"""Puts the service together from the configuration and what is on flash; then unload it."""

from tapauth.compat import forget
from tapauth.crypto.hmac import Hmac
from tapauth.rpc import addresses, app_tokens, credentials, records
from tapauth.rpc.rules import RuleError, Rules
from tapauth.rpc.service import Service
from tapauth.small_file import ENOENT

_LOST = {
    "key": "rpc_key is lost: add every device and generate every token again",
    "devices": "rpc_devices is damaged: add every device again, generate their tokens again",
    "tokens": "rpc_tokens is damaged: generate every token again",
    "rules": "",  # the rule file makes it anew, or is said to be lost
}


def _report(name: str, state: int, log) -> str:
    """Say how a file is. Returns what is wrong with it, or ""."""
    if state == records.MENDED:
        log.warning("rpc", "a copy of rpc_{} was damaged, the other one serves", name)
    if state != records.LOST:
        return ""
    log.error("rpc", "rpc_{} is damaged", name)
    return _LOST[name]


def _secret(file, tables: tuple, random, log) -> tuple:
    """(the board's own key, what is wrong or ""): made once, then the same for ever."""
    kept = file.load()
    problem = _report("key", file.state, log)
    if len(kept) == 1 and len(kept[0]) == 32:
        return kept[0], problem
    # Under another key the rows would stand for other tokens, and for no device's key.
    for table in tables:
        if len(table):
            problem = _LOST["key"]
            table.clear()
    key = random(32)
    file.save([key])
    return key, problem


def load_rules(rules: Rules, fs, path: str, log) -> None:
    """Put the rule file in force; a bad one leaves the last good rules, a lost one none."""
    # Its texts and tables are needed once, and large.
    from tapauth.rpc import rule_file

    forget(rule_file)
    try:
        with fs.open(path, "rb") as file:
            text = file.read(rule_file.MAX_FILE + 1)
    except OSError as error:
        if error.args[0] != ENOENT:
            log.error("rpc", "{} cannot be read ({})", path, error)
        elif rules.need_a_file():
            rules.lose()
            log.error("rpc", "{} is lost: nothing is allowed until it is back", path)
        else:
            rules.put([])
        return
    try:
        rules.put(rule_file.compile_rules(text))
    except RuleError as error:
        log.error("rpc", "{} is refused, the last good rules stay: {}", path, str(error))


def open_service(settings: dict, fs, clock, unix_time, random, log, folder: str = "/"):
    """The Service for the checked section "rpc" of the configuration; None when it is off.

    `fs` is small_file.Flash or like it, `random(count)` gives bytes from the hardware's random
    generator: on a board that needs its radio for that, call this when the radio is up. The
    service's files are in `folder`, which ends with a slash. Raises ValueError and OSError.
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
    devices = records.Table(files["devices"], credentials.DIGESTS, credentials.CAPACITY)
    apps = records.Table(files["tokens"], app_tokens.SERIAL, app_tokens.CAPACITY)
    rules = Rules(files["rules"])
    problems = [_report(name, files[name].state, log) for name in ("devices", "tokens", "rules")]
    key, problem = _secret(files["key"], (devices, apps), random, log)
    problems.append(problem)
    mac = Hmac(key)
    load_rules(rules, fs, folder + "rules.json", log)
    problems.append(rules.problem)
    known = credentials.Credentials(devices, mac, backend, settings["backend_key"])
    service = Service(
        settings,
        credentials=known,
        tokens=app_tokens.Tokens(apps, mac, random),
        rules=rules,
        clock=clock,
        unix_time=unix_time,
        log=log,
    )
    service.problem = "; ".join([problem for problem in problems if problem])
    return service
