"""Lists of cards: read what people wrote, write what a board takes, and where a store lies."""
