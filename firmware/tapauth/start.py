"""Makes and joins the parts of a board, once; app.py forgets this before the tasks run."""

import os

import tapauth_slot

from tapauth import __version__
from tapauth.cards.vault import Vault
from tapauth.compat import Clock, const, forget, late, mem_alloc, mem_free, unix_time
from tapauth.console import Console
from tapauth.errors import VENDOR_ERROR, VENDOR_WARNING, Errors
from tapauth.feedback import OFFLINE, Feedback
from tapauth.health import Health
from tapauth.link.mqtt import Link
from tapauth.log import LEVELS, Log
from tapauth.network import Network
from tapauth.reader import task
from tapauth.roles.base import App
from tapauth.supervisor import Backoff, Supervisor
from tapauth.wallclock import WallClock, load_day

import board

_LEAST_HEAP = const(240_000)
"""Bytes of heap that the local interface needs where code is not used from flash."""
_KEPT = ("board_id", "update", "clock")
"""Of the configuration, what an App reads while the board runs."""


def _begin_trial(log) -> tuple:
    """A configuration that nobody confirmed goes before it is read; see config_trial.py. Returns
    the ConfigTrial, and whether it is this start that a new configuration is on trial for.
    """
    from tapauth import config_trial

    forget(config_trial)
    trial = config_trial.ConfigTrial()
    state = ""
    try:
        state = trial.begin()
        if state:
            log.warning("config", "new configuration: {}", state)
    except OSError as error:
        log.error("config", "the trial of a configuration failed ({})", error)
    return trial, state == "trial"


def _load(log) -> dict | None:
    """The checked configuration; None when it is refused, and the log says why."""
    # Needed once, and its tables are large.
    from tapauth import config

    forget(config)
    try:
        settings = config.load()
    except config.ConfigError as error:
        log.error("config", "{}", str(error))
        log.error("config", "nothing is started: mend /config.json and restart")
        return None
    if settings["evse_io"] == "lines" and not board.evse_lines(
        len(settings["evses"]), settings["lines"]
    ):
        log.error("config", "evses: this board has no lines for so many; nothing is started")
        return None
    return settings


def begin(pins=None) -> tuple | None:
    """(settings, clock, log, trial or None, tail or None) for an App; None when the
    configuration is refused, and the log says why.
    """
    clock = Clock()
    log = Log(clock, os.urandom(16))
    trial, new = _begin_trial(log)
    settings = _load(log)
    if not settings:
        if new:
            # No task runs that would end the trial. The next start restores the one before.
            if pins:
                pins.well()  # it was not its code that ended this start
            board.reset()
        return None
    tail = None
    if settings["server"]["enabled"]:
        from tapauth.local.tail import Tail

        tail = Tail()
        log.write_to(tail)
    if not trial.on:
        trial = None
    log.level = LEVELS.index(settings["log_level"])
    log.info("app", "TapAuth {} on {}, {}", __version__, settings["board_id"], settings["role"])
    return settings, clock, log, trial, tail


def make(settings: dict, clock, log, trial=None, tail=None, pins=None):
    """The board in its role, an App with all its parts; the other role's code is not loaded.
    `pins` is the pinning.pins.Pins of this start, None on chips where nothing is pinned.
    """
    app: App
    if settings["role"] == "standalone":
        from tapauth.roles.standalone import Standalone

        app = Standalone()
        join = _join_standalone
    else:
        from tapauth.roles.attached import AttachedBoard

        app = AttachedBoard()
        join = _join_attached
    _make_parts(app, settings, clock, log)
    app.trial = trial
    app.pins = late.pins = pins
    app.tail = tail
    join(app)
    return app


def _make_parts(app: App, settings: dict, clock, log) -> None:
    base = settings["base_topic"]
    app.settings = settings
    app.clock = clock
    app.log = log
    app.time_topic = base + "/time"
    app.console = Console(app.console_status, app.allow_pinning, log)
    app.reader_stall = task.Stall()
    app.feedback = Feedback(board.lamp)
    app.feedback.condition(OFFLINE, True, clock.now())
    app.supervisor = Supervisor(clock, log, board.watchdog(settings["watchdog_ms"]))
    app.network = Network(board, settings["network"], log, Backoff())
    app.link = link = Link(
        settings=settings["mqtt"],
        clock=clock,
        log=log,
        on_message=app.message,
        on_up=app.link_up,
        status_topic=base + "/status",
    )
    app.errors = Errors(base + "/errors", log, link)
    app.wallclock = WallClock(clock, app.clock_set, app.time_refused, load_day())
    app.vault = Vault(
        settings=settings["cards"],
        without_clock=settings["auth"]["accept_expiry_without_clock"],
        wallclock=app.wallclock,
        errors=app.errors,
        log=log,
    )
    app.health = Health(
        topic=base + "/health",
        interval_s=settings["health_interval_s"],
        clock=clock,
        supervisor=app.supervisor,
        link=link,
        counters=app.counters,
    )
    app.scanner, app.taps = task.open_reader(board, settings["reader"], app.card)


def _join_standalone(app) -> None:
    """Make the parts of a board that decides."""
    from tapauth.core.authorizer import Authorizer
    from tapauth.core.settings import AuthSettings
    from tapauth.everest.consumer import AuthConsumer
    from tapauth.everest.module import AuthTokenProvider, Discovery
    from tapauth.station import Station

    settings, clock, log = app.settings, app.clock, app.log
    everest = settings["everest"]
    remote = everest["remote_validator"]
    auth = AuthSettings(**settings["auth"])
    # The operator's commands win over the configuration.
    for key in ("connection_timeout", "master_pass_group_id"):
        setattr(auth, key, app.vault.setting(key, getattr(auth, key)))
    # The API's own timeout comes first; this one is for a request that was lost inside.
    auth.validator_timeout_ms = everest["remote_timeout_ms"] + 1000
    core = Authorizer(auth, settings["evses"], 2 if remote else 1)
    app.station = app.commands = station = Station(core, clock, log)
    # EVSEs on MQTT may be authorized from before this start; the board's own lines are off.
    core.unreached = settings["evse_io"] == "mqtt"
    app.evses = evses = _open_evses(app)
    common = {
        "settings": everest,
        "clock": clock,
        "link": app.link,
        "errors": app.errors,
        "log": log,
        "station": station,
    }
    app.consumer = AuthConsumer(everest["auth_consumer_id"], wallclock=app.wallclock, **common)
    modules = [app.consumer, AuthTokenProvider(everest["auth_token_provider_id"], **common)]
    validators = [app.validate]
    if remote:
        from tapauth.everest.validator import AuthTokenValidator

        module_id = everest["auth_token_validator_id"]
        validator = AuthTokenValidator(module_id, vault=app.vault, **common)
        modules.append(validator)
        validators.append(validator.validate)
    app.apis = modules + [Discovery(everest, app.link, log, modules), evses]
    station.connect(app.status, app.command, app.vault.keep, validators)


def _open_evses(app):
    settings = app.settings
    if settings["evse_io"] == "mqtt":
        from tapauth.evse.remote import MqttEvses

        return MqttEvses(
            base=settings["base_topic"],
            log=app.log,
            link=app.link,
            on_event=app.session_event,
            station=app.station,
        )
    from tapauth.evse.lines import LineEvses

    config = settings["lines"]
    app.lines = LineEvses(
        # _load() has seen that the board has them.
        lines=[board.evse_lines(i + 1, config) for i in range(len(settings["evses"]))],
        config=config,
        clock=app.clock,
        log=app.log,
        on_event=app.session_event,
    )
    return app.lines


def _join_attached(app) -> None:
    """Make the parts of a board at a real EVerest."""
    from tapauth.everest.client import EverestClient

    app.everest = EverestClient(
        settings=app.settings["everest"],
        clock=app.clock,
        link=app.link,
        errors=app.errors,
        log=app.log,
        validate=app.vault.validate,
        on_status=app.status,
    )
    app.apis = [app.everest]
    app.commands = app


def add_tasks(app) -> None:
    """Subscribe, and hand all tasks to the supervisor."""
    _tell_pinning(app)
    if app.settings["rpc"]["address"]:
        _serve_rpc(app)
    if app.settings["cards"]["mqtt_update"]:
        _take_card_updates(app)
    for api in app.apis:
        for name in api.subscriptions:
            app.link.subscribe(name)
    _start_clock(app, app.settings["clock"]["source"])
    add = app.supervisor.add
    add("network", app.network.run, 30_000)
    add("reader", app.scan)
    add("mqtt", app.link.run, 15_000)
    add("apis", app.tick)
    add("cards", app.vault.run)
    add("health", app.health.run)
    add("feedback", app.show_feedback)
    add("console", app.console.run)
    if app.trial:
        add("trial", app.watch_trial)
    if tapauth_slot.on_trial():
        add("update", app.try_firmware)
    app.add_tasks()
    _serve_locally(app)
    # The parts have what they need of the configuration; the rest of it goes.
    app.settings = {section: app.settings[section] for section in _KEPT}


def _tell_pinning(app) -> None:
    pins = app.pins
    if not pins:
        return
    app.log.info("app", "code in flash: {}", pins.why_not or "used where it lies")
    if pins.has_failed:
        app.errors.set(
            True, VENDOR_WARNING, "Code not used from flash", origin="app", message=pins.why_not
        )


def _serve_rpc(app) -> None:
    """The cloud auth service; it is not loaded when it is not configured."""
    from tapauth.rpc import setup
    from tapauth.rpc.over_mqtt import MqttRpc
    from tapauth.small_file import Flash

    forget(setup)
    settings = app.settings
    try:
        rpc = setup.open_service(
            settings=settings["rpc"],
            fs=Flash,
            clock=app.clock,
            unix_time=unix_time,
            random=os.urandom,
            log=app.log,
        )
    except (ValueError, OSError) as error:
        text = "the auth service is not started: " + str(error)
        app.errors.set(True, VENDOR_ERROR, "Auth service not started", origin="rpc", message=text)
    else:
        app.rpc = rpc
        if rpc.problem:
            app.errors.set(
                True, VENDOR_ERROR, "Auth service data lost", origin="rpc", message=rpc.problem
            )
        app.apis.append(MqttRpc(rpc, app.link, settings["base_topic"]))


def _take_card_updates(app) -> None:
    """The card list's door to the broker; it is not loaded when it is not configured."""
    from tapauth.cards.card_updates import CardUpdates
    from tapauth.everest.module import reply_topic

    base = app.settings["base_topic"]
    app.apis.append(
        CardUpdates(base, link=app.link, vault=app.vault, reply_topic=reply_topic, log=app.log)
    )


def _start_clock(app, source: str) -> None:
    if source == "system":
        app.wallclock.set(unix_time())
    if source != "none" and app.wallclock.unix() is None:
        text = "the time of day is not known: cards with an expiry are refused"
        app.errors.set(True, VENDOR_WARNING, "Clock not set", origin="clock", message=text)
    if source == "mqtt":
        app.link.subscribe(app.time_topic)
    elif source == "ntp":
        app.supervisor.add("clock", app.keep_time)


def _serve_locally(app) -> None:
    """The console page and its commands, where they are configured; see local/interface.py."""
    if not app.settings["server"]["enabled"]:
        return
    if app.pins and app.pins.why_not and mem_alloc() + mem_free() < _LEAST_HEAP:
        text = "not enough memory without pinning: " + app.pins.why_not
        app.errors.set(
            True, VENDOR_WARNING, "Local interface not started", origin="server", message=text
        )
        app.log.write_to(print)
        app.tail = None  # nobody can come who would read it
        return
    from tapauth.local.interface import LocalInterface

    app.local = LocalInterface(app, app.commands, app.rpc, board)
    app.console.obey = app.local.door.obey
    app.errors.on_change = app.local.errors_changed
    app.supervisor.add("local server", app.local.run, 15_000)
