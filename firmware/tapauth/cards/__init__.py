"""The token store: cards on flash, none in RAM. `Store` is the whole of it."""

from tapauth.cards.store import MAX_UPDATE, Store, finish

__all__ = ["MAX_UPDATE", "Store", "finish"]
