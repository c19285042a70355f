"""The log: levels, and that no token can get into it."""

from tapauth import log

from moved_clock import MovedClock

CARD = {"id_token": {"value": "04a1b2c3d4e5f6", "type": "ISO14443"}, "authorization_type": "RFID"}


def make(level=log.DEBUG):
    lines = []
    return log.Log(MovedClock(12_345), b"key", level, lines.append), lines


def test_a_line_has_time_level_and_place():
    it, lines = make()
    it.warning("reader", "lost after {} ms", 250)
    assert lines == ["[   12.345] W reader: lost after 250 ms"]


def test_lines_below_the_level_are_not_written():
    it, lines = make(log.WARNING)
    it.debug("a", "x")
    it.info("a", "x")
    it.warning("a", "y")
    it.error("a", "z")
    assert [line[12:] for line in lines] == ["W a: y", "E a: z"]


def test_a_token_is_shown_as_a_keyed_hash():
    it, lines = make()
    it.info("auth", "{}", CARD)
    it.info("auth", "{}", CARD["id_token"])
    it.info("auth", "{}", {"value": "04A1B2C3D4E5F6", "type": "ISO14443"})
    assert lines[0] == lines[1] == lines[2]
    assert "04a1" not in lines[0].lower()
    name = lines[0].split()[-1]
    assert len(name) == 8
    int(name, 16)
    assert log.token_name(b"key", CARD) == name
    assert log.token_name(b"other", CARD) != name


def test_a_strangers_word_makes_no_line_of_its_own():
    it, lines = make()
    for word in ("x\n[    9.999] I auth: token 12345678: UsedToStart", "\x1b[2J", "\r", "\x9b2J"):
        it.info("auth", "{} refused", word)
    assert [line[12:] for line in lines] == ["I auth: <odd text> refused"] * 4
    it.info("auth", "EVSE {}: {}", 1, "l\xe4dt")
    assert lines[-1].endswith("EVSE 1: l\xe4dt")


def test_what_might_hold_a_token_is_not_shown():
    it, lines = make()
    for value in ([CARD], b"04a1b2c3d4e5f6", ("04a1b2c3d4e5f6",), {"id_token": None}, {}):
        it.info("auth", "{}", value)
    it.info("auth", "{}", ValueError("04a1b2c3d4e5f6"))
    it.info("auth", "{}", OSError(113))
    try:
        raise KeyError("04a1b2c3d4e5f6")
    except KeyError as error:
        it.trace(error)
    text = "\n".join(lines)
    assert "04a1" not in text
    assert "OSError 113" in text
    assert "line " in text


def test_a_line_there_is_no_memory_for_keeps_nobody_from_what_it_tells_of():
    def write(line):
        raise MemoryError

    it = log.Log(MovedClock(12_345), b"key", log.DEBUG, write)
    it.info("auth", "{}", CARD)
    it.error("app", "a message could not be handled: {}", MemoryError())
    try:
        raise ValueError
    except ValueError as error:
        it.trace(error)
