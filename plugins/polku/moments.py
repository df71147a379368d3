"""
Points in time, as events write them and as Redshift reads them: whole microseconds since 1970, UTC.

Two ways lead to the same number.
The fast one, for whole columns (``columns``), looks parts of the text up in small tables, and takes the common forms
(``2026-11-23T10:41:07.123Z``, ``2026-11-23T10:41:07.123456+00:00``) alone; the thorough one takes everything that docs/events.md lists.
"""

from __future__ import annotations

import re
from datetime import date

EARLIEST = -62_135_596_800_000_000
"""0001-01-01 00:00:00."""

LATEST = 253_402_300_799_999_999
"""9999-12-31 23:59:59.999999."""

_MINUTE = 60_000_000
_DAY = 86_400_000_000
_HOURS = 24
_SIXTY = 60
_EPOCH = date(1970, 1, 1).toordinal()
_TABLE_LIMIT = 10_000

_ISO = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:(?:[Tt_]| +)(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?"
    r" *(Z|z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d\.", re.ASCII)
_FRACTION = re.compile(r"\d{3}Z?", re.ASCII)
_END = re.compile(r"(\d{3})?(Z|\+00:?00)", re.ASCII)
_NUMBER = re.compile(r"(-?)(\d{1,20})(?:\.(\d*))?", re.ASCII)
_MAIL_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, *)?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)?(?: [A-Z]{1,4}| ?[+-]\d{4})?(?: \(.*\))?", re.ASCII
)
_JAVASCRIPT = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d{4}) (\d\d:\d\d:\d\d) GMT([+-]\d{4})(?: \(.*\))?", re.ASCII)


class _Seconds(dict[str, int]):
    """Microseconds since 1970 of ``2026-11-23T10:41:07.``; raises ValueError for any other form."""

    def __missing__(self, text: str) -> int:
        if not _SECOND.fullmatch(text):
            raise ValueError(text)
        moment = _of_parts(text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
        if len(self) >= _TABLE_LIMIT:
            self.clear()
        self[text] = moment
        return moment


class _Fractions(dict[str, int]):
    """Microseconds of ``123`` and of ``123Z``; raises ValueError for any other form."""

    def __missing__(self, text: str) -> int:
        if not _FRACTION.fullmatch(text):
            raise ValueError(text)
        moment = self[text] = int(text[:3]) * 1000
        return moment


class _Ends(dict[str, int]):
    """Microseconds of what may follow ``2026-11-23T10:41:07.123``; raises ValueError for any other form."""

    def __missing__(self, text: str) -> int:
        if not _END.fullmatch(text):
            raise ValueError(text)
        moment = self[text] = int(text[:3]) if text[0].isdigit() else 0
        return moment


class _SecondTexts(dict[int, str]):
    """``2026-11-23 10:41:07.`` of seconds since 1970."""

    def __missing__(self, seconds: int) -> str:
        days, second = divmod(seconds, 86_400)
        text = f"{date.fromordinal(days + _EPOCH)} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}."
        if len(self) >= _TABLE_LIMIT:
            self.clear()
        self[seconds] = text
        return text


SECONDS = _Seconds()
FRACTIONS = _Fractions()
ENDS = _Ends()
SECOND_TEXTS = _SecondTexts()
THOUSANDTHS = [f"{thousandth:03}000" for thousandth in range(1000)]


def show(moment: int) -> str:
    """Return a moment as Redshift reads it: ``2026-11-23 10:41:07.123000``."""
    second, micros = divmod(moment, 1_000_000)
    return f"{SECOND_TEXTS[second]}{micros:06}"


def counts(text: str) -> bool:
    """Tell whether a text is a count since 1970 rather than a date."""
    text = text.strip()
    return bool(_NUMBER.fullmatch(text)) and not _ISO.fullmatch(text)


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


def _of_parts(year: str, month: str, day: str, hour: str, minute: str, second: str) -> int:
    """Return the moment of digits that were checked to be some; a leap second is the one after it, 24:00:00 the next day's 0:00."""
    days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    h, m, s = int(hour), int(minute), int(second)
    if h > _HOURS or m >= _SIXTY or s > _SIXTY or (h == _HOURS and (m or s)):
        raise ValueError(f"{hour}:{minute}:{second} is no time of day")
    return days * _DAY + ((h * 60 + m) * 60 + s) * 1_000_000


def _offset(zone: str | None) -> int:
    """Return how far a zone is ahead of UTC; raises ValueError for one beyond a day."""
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or "0")
    if hours >= _HOURS or minutes >= _SIXTY:
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
    from email.utils import parsedate_tz

    parts = parsedate_tz(text) if _MAIL_DATE.fullmatch(text) else None
    if parts is None:
        raise ValueError(f"{text!r:.80} is no time that can be read")
    year, month, day, hour, minute, second = parts[:6]
    moment = _of_parts(str(year), str(month), str(day), str(hour), str(minute), str(second))
    return moment - (parts[9] or 0) * 1_000_000
