"""Why an event is rejected. A rejection is a value and is never raised. A rejected event becomes a dead letter and
changes nothing else.
"""

from typing import Literal, final, get_args

import msgspec

RejectionCode = Literal[
    "empty_value",
    "too_large",
    "malformed_json",
    "missing_field",
    "unknown_type",
    "invalid_field",
    "key_mismatch",
    "wrong_partition",
    "event_id_conflict",
    "currency_mismatch",
    "out_of_range",
]
OperatorCode = Literal["operator_dead_letter"]  # not a rule but an operator decided
REJECTION_CODES: tuple[RejectionCode, ...] = get_args(RejectionCode)


@final
class Rejected(msgspec.Struct, frozen=True, gc=False):
    """An event that breaks the contract.

    `detail` becomes a header of the dead letter. It has no text of the event, and a replay must give the same bytes.
    """

    code: RejectionCode | OperatorCode
    detail: str


CURRENCY_MISMATCH = Rejected("currency_mismatch", "currency differs from the position's")
EVENT_ID_CONFLICT = Rejected("event_id_conflict", "event_id was used by another event of the portfolio")
OPERATOR_DEAD_LETTER = Rejected("operator_dead_letter", "An operator moved this record to the dead letters.")
KEY_MISMATCH = Rejected("key_mismatch", "the record's key is not portfolio_id")
WRONG_PARTITION = Rejected("wrong_partition", "the record is not in the partition that murmur2 gives its key")


def out_of_range(what: str) -> Rejected:
    """Returns the rejection for a stored amount that would leave the range. `what` names it, such as `quantity`."""
    return Rejected("out_of_range", f"{what} would be 1e24 or more")


ROUNDED_AWAY = Rejected("out_of_range", "quantity would round to 0")
