"""
Points in time, as events write them and as Redshift reads them: whole microseconds since 1970, UTC.

Two ways lead to the same number. The fast one looks up a minute and a rest of the text in small tables, and takes the common form
(``2026-11-23T10:41:00.123Z``) alone; the thorough one takes everything that docs/events.md lists.
"""

from __future__ import annotations

import re
from datetime import date
from email.utils import parsedate_tz

EARLIEST = -62_135_596_800_000_000
"""0001-01-01 00:00:00."""

LATEST = 253_402_300_799_999_999
"""9999-12-31 23:59:59.999999."""

_MINUTE = 60_000_000
_DAY = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_TABLE_LIMIT = 50_000

_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:(?:[Tt_]| +)(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?"
    r" *(Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"(-?)(\d{1,20})(?:\.(\d*))?", re.ASCII)
_JAVASCRIPT = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d{4}) (\d\d:\d\d:\d\d) GMT([+-]\d{4})(?: \(.*\))?", re.ASCII)


class _Minutes(dict[str, int]):
    """Microseconds of ``2026-11-23T10:41:``; raises ValueError for any other form."""

    def __missing__(self, text: str) -> int:
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:", text, re.ASCII):
            raise ValueError(text)
        moment = _of_parts(text[:4], text[5:7], text[8:10], text[11:13], text[14:16], "00")
        if len(self) >= _TABLE_LIMIT:
            self.clear()
        self[text] = moment
        return moment


class _Seconds(dict[str, int]):
    """Microseconds of ``00.123Z`` and ``00Z``; raises ValueError for any other form."""

    def __missing__(self, text: str) -> int:
        if not re.fullmatch(r"[0-5]\d(\.\d{3})?Z", text, re.ASCII):
            raise ValueError(text)
        moment = int(text[:2]) * 1_000_000 + int(text[3:6] or "0") * 1000
        self[text] = moment
        return moment


class _MinuteTexts(dict[int, str]):
    """``2026-11-23 10:41:`` of minutes since 1970."""

    def __missing__(self, minutes: int) -> str:
        days, minute = divmod(minutes, 1440)
        text = f"{date.fromordinal(days + _EPOCH)} {minute // 60:02}:{minute % 60:02}:"
        if len(self) >= _TABLE_LIMIT:
            self.clear()
        self[minutes] = text
        return text


class _SecondTexts(dict[int, str]):
    """``00.123000`` of microseconds in a minute; keeps only whole milliseconds, so that the table stays small."""

    def __missing__(self, micros: int) -> str:
        text = f"{micros // 1_000_000:02}.{micros % 1_000_000:06}"
        if micros % 1000 == 0:
            self[micros] = text
        return text


MINUTES = _Minutes()
SECONDS = _Seconds()
MINUTE_TEXTS = _MinuteTexts()
SECOND_TEXTS = _SecondTexts()


def fast(text: str) -> int:
    """Return the moment of a text in the common form; raises ValueError where it is in another, also a valid one."""
    return MINUTES[text[:17]] + SECONDS[text[17:]]


def show(moment: int) -> str:
    """Return a moment as Redshift reads it: ``2026-11-23 10:41:00.123000``."""
    minutes, micros = divmod(moment, _MINUTE)
    return MINUTE_TEXTS[minutes] + SECOND_TEXTS[micros]


def read(text: str) -> int:
    """
    Return the moment of a text.

    Raises:
        ValueError: Nobody can read it, or it lies before the year 1 or after 9999.
    """
    text = text.strip()
    match = _ISO.fullmatch(text)
    if match:
        year, month, day, hour, minute, second, fraction, zone = match.groups()
        moment = _of_parts(year, month, day, hour or "00", minute or "00", second or "00")
        moment += int((fraction or "")[:6].ljust(6, "0")) - _offset(zone)
    elif number := _NUMBER.fullmatch(text):
        moment = _of_number(*number.groups())
    elif script := _JAVASCRIPT.fullmatch(text):
        moment = _of_mail_date("{1} {0} {2} {3} {4}".format(*script.groups()))
    else:
        moment = _of_mail_date(text)
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"{text!r:.80} lies outside the years 1 to 9999")
    return moment


def _of_parts(year: str, month: str, day: str, hour: str, minute: str, second: str) -> int:  # noqa: PLR0913 - a date has as many
    """Return the moment of digits that were checked to be some; a leap second is the one after it, 24:00:00 the next day's 0:00."""
    days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    h, m, s = int(hour), int(minute), int(second)
    if h > 24 or m > 59 or s > 60 or (h == 24 and (m or s)):
        raise ValueError(f"{hour}:{minute}:{second} is no time of day")
    return days * _DAY + ((h * 60 + m) * 60 + s) * 1_000_000


def _offset(zone: str | None) -> int:
    """Return how far a zone is ahead of UTC; raises ValueError for one beyond a day."""
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or "0")
    if hours > 23 or minutes > 59:
        raise ValueError(f"{zone} is no time zone")
    offset = (hours * 60 + minutes) * _MINUTE
    return -offset if zone[0] == "-" else offset


def _of_number(sign: str, whole: str, fraction: str | None) -> int:
    """Return the moment of a count since 1970: of seconds below 1e11, of ms below 1e14, of microseconds below 1e17, else of ns."""
    digits = int(whole)
    for limit, scale in ((10**11, 1_000_000), (10**14, 1000), (10**17, 1)):
        if digits < limit:
            micros = digits * scale + int((fraction or "")[:6].ljust(6, "0")) * scale // 1_000_000
            break
    else:
        micros = digits // 1000
    return -micros if sign else micros


def _of_mail_date(text: str) -> int:
    """Return the moment of a date as mail and HTTP write it; raises ValueError for anything else."""
    parts = parsedate_tz(text) if len(text) < 64 and "," in text[:4] + " " + text[:2] or text[:2].strip().isdigit() else None
    if parts is None:
        raise ValueError(f"{text!r:.80} is no time that can be read")
    year, month, day, hour, minute, second = parts[:6]
    moment = _of_parts(str(year), str(month), str(day), str(hour), str(minute), str(second))
    return moment - (parts[9] or 0) * 1_000_000
