"""The cards that the board knows, from a small JSON file on its flash.

The file is an array of objects: `id_token` (hex UID or other value, at most 36 characters), and
optionally `parent_id` (its group). An unreadable or wrong file means that no card is known.
"""

import json


class CardList:
    """A validator: answers from the file `path`, read once."""

    def __init__(self, path: str, log):
        self._parents: dict[str, str] = {}
        try:
            with open(path) as file:
                for card in json.load(file):
                    parent = card.get("parent_id", "")
                    self._parents[card["id_token"].upper()] = parent
        except OSError:
            log.warning("cards", "{} is missing: no card is known", path)
        except (ValueError, KeyError, TypeError, AttributeError):
            # Half a list could hold a card that the other half takes away.
            self._parents = {}
            log.error("cards", "{} is not a card list: no card is known", path)
        log.info("cards", "{} cards known", len(self._parents))

    def validate(self, token: dict) -> tuple:
        """(ValidationResult, whether other validators need not be asked) for a ProvidedIdToken."""
        parent = self._parents.get(token["id_token"]["value"].upper())
        if parent is None:
            return {"authorization_status": "Unknown", "tariff_messages": []}, False
        result: dict = {"authorization_status": "Accepted", "tariff_messages": []}
        if parent:
            result["parent_id_token"] = {"value": parent, "type": "Local"}
        return result, True
