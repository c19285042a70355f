"""RFC 3339 date-times, as `expiry_time` carries them."""

from tapauth.compat import const

DAY = const(86_400)
"""Seconds."""
_DAYS_BEFORE_MONTH = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


# Works on bytes: MicroPython keeps every single character that was ever taken out of a string.


def _number(text: bytes, digits: int, low: int, high: int) -> int:
    """All of `text`, so many digits, as a number of low..high; raises ValueError otherwise."""
    if len(text) != digits:
        raise ValueError
    number = 0
    for byte in text:
        digit = byte - 48
        if not 0 <= digit <= 9:
            raise ValueError
        number = number * 10 + digit
    if not low <= number <= high:
        raise ValueError
    return number


def _parse(text: bytes) -> int:
    year = _number(text[0:4], 4, 1, 9999)
    month = _number(text[5:7], 2, 1, 12)
    day = _number(text[8:10], 2, 1, 31)
    hour = _number(text[11:13], 2, 0, 23)
    minute = _number(text[14:16], 2, 0, 59)
    second = _number(text[17:19], 2, 0, 60)  # 60: a leap second
    marks = text[4:5] + text[7:8] + text[13:14] + text[16:17]
    if marks != b"--::" or text[10:11] not in (b"T", b"t", b" "):
        raise ValueError
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = 28 + leap if month == 2 else 30 if month in (4, 6, 9, 11) else 31
    if day > length:
        raise ValueError
    at = 19
    if text[at:20] == b".":
        at = 20
        while text[at : at + 1].isdigit():
            at += 1
        if at == 20:
            raise ValueError
    zone = text[at:]
    if zone in (b"Z", b"z"):
        offset = 0
    else:
        if len(zone) != 6 or zone[:1] not in (b"+", b"-") or zone[3:4] != b":":
            raise ValueError
        offset = _number(zone[1:3], 2, 0, 23) * 60 + _number(zone[4:6], 2, 0, 59)
        if zone[:1] == b"-":
            offset = -offset
    past = year - 1
    days = past * 365 + past // 4 - past // 100 + past // 400 - 719162
    days += _DAYS_BEFORE_MONTH[month - 1] + (leap and month > 2) + day - 1
    return ((days * 24 + hour) * 60 + minute - offset) * 60 + second


def parse_rfc3339(text) -> int | None:
    """Seconds since 1970-01-01 UTC of an RFC 3339 date-time, fractions cut off.

    None when `text` is no such thing: an expiry nobody can read must not let anyone in.
    """
    if type(text) is not str or not 20 <= len(text) <= 64:
        return None
    try:
        return _parse(text.encode())
    except ValueError:
        return None


def format_rfc3339(seconds: int) -> str:
    """Seconds since 1970-01-01 UTC, until 9999, as an RFC 3339 date-time in UTC."""
    days, second = divmod(seconds, DAY)
    # Years counted from March, so that the leap day ends them (H. Hinnant's civil_from_days).
    days += 719_468
    era, day = divmod(days, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month = month + 3 if month < 10 else month - 9
    year += era * 400 + (month <= 2)
    hour, second = divmod(second, 3600)
    minute, second = divmod(second, 60)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
