"""Makes and joins the parts of a board that decides; needed once, at the start."""

from tapauth.compat import unload
from tapauth.core.authorizer import Authorizer
from tapauth.core.settings import AuthSettings
from tapauth.everest.consumer import AuthConsumer
from tapauth.everest.discovery import Discovery
from tapauth.everest.provider import AuthTokenProvider
from tapauth.station import Station


def join(app) -> None:
    """Make the parts of a Standalone that has the common ones."""
    settings, clock, log = app.settings, app.clock, app.log
    everest = settings["everest"]
    remote = everest["remote_validator"]
    auth = AuthSettings(**settings["auth"])
    # What the operator set by command wins over the configuration.
    for key in ("connection_timeout", "master_pass_group_id"):
        setattr(auth, key, app.vault.setting(key, getattr(auth, key)))
    # The API's own timeout comes first; this one is for a request that was lost inside.
    auth.validator_timeout_ms = everest["remote_timeout_ms"] + 1000
    core = Authorizer(auth, settings["evses"], 2 if remote else 1)
    unload("tapauth.core.settings_check")
    app.station = station = Station(core, clock, log)
    # EVSEs on MQTT may be authorized from before this start; the board's own lines are off.
    core.unreached = settings["evse_io"] == "mqtt"
    app.evses = evses = _open_evses(app)
    common = (everest, clock, app.link, app.errors, log, station)
    app.consumer = AuthConsumer(everest["auth_consumer_id"], *common, app.wallclock)
    modules = [app.consumer, AuthTokenProvider(everest["auth_token_provider_id"], *common)]
    validators = [app.validate]
    if remote:
        from tapauth.everest.validator import AuthTokenValidator

        validator = AuthTokenValidator(everest["auth_token_validator_id"], *common, app.vault)
        modules.append(validator)
        validators.append(validator.validate)
    app.apis = modules + [Discovery(everest, app.link, log, modules), evses]
    station.connect(app.status, app.command, app.vault.keep, validators)


def _open_evses(app):
    settings = app.settings
    if settings["evse_io"] == "mqtt":
        from tapauth.evse.remote import MqttEvses

        base = settings["base_topic"]
        return MqttEvses(base, app.log, app.link, app.session_event, app.station)
    from tapauth.evse.lines import LineEvses

    app.lines = LineEvses(
        app.evse_lines(), settings["lines"], app.clock, app.log, app.session_event
    )
    return app.lines
