"""The two roles of a board, chosen by configuration: parts of the composition root."""
