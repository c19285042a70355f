"""The token store: cards on flash, none in RAM."""
