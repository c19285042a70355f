"""Looking at the configuration and changing it, from the local interface."""

import json

from tapauth.json_in import load

_MASK = "***"


def _masked(section: dict) -> dict:
    shown = {}
    for name, value in section.items():
        if isinstance(value, dict):
            value = _masked(value)
        elif _is_secret(name) and value:
            value = _MASK
        shown[name] = value
    return shown


def _is_secret(name: str) -> bool:
    """Whether the value of this key is not to be shown."""
    return name.endswith(("password", "key", "secret"))


def shown(text: str) -> dict:
    """The configuration as it is written down, without its secrets. Raises ValueError."""
    return _masked(load(text))


def _merge(old: dict, changes: dict) -> None:
    for name, value in changes.items():
        if isinstance(value, dict):
            section = old.setdefault(name, {})
            if not isinstance(section, dict):
                raise ValueError(name + ": is no object")
            _merge(section, value)
        elif value is None:
            old.pop(name, None)
        elif not _is_secret(name) or value != _MASK:
            old[name] = value
        elif not old.get(name):
            raise ValueError(name + ": " + _MASK + " stands for a secret that is not there")


def changed(text: str, changes: dict, parse) -> str:
    """The configuration `text` with `changes` in it: nested objects of values, null to remove.

    `parse(text)` checks the outcome. Raises ValueError, whose text names the key at fault.
    """
    config = load(text)
    _merge(config, changes)
    text = json.dumps(config)
    parse(text)
    return text
