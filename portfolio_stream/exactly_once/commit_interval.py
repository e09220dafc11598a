"""How long records gather before they are fetched together and committed in one transaction.

The interval is LEAST_SECONDS divided by the idle share of the main thread: a busy worker spreads a transaction's fixed
cost over more events. The interval is at least the usual time of a commit, and at most MOST_SECONDS. It need not be as
long as a turn of the main loop: if a turn takes longer, the next fetch brings all records that came during the turn.
"""

from dataclasses import dataclass

LEAST_SECONDS = 0.012  # a transaction costs some 3 ms of CPU, whatever it holds: a fifth of a core, at few events
MOST_SECONDS = 0.100  # a reader sees a record after two intervals at the latest, in a worker that keeps up
NEWEST_TURN_SHARE = 0.2  # of the moving average: one long turn alone must not make the next events wait, too


@dataclass(frozen=True, slots=True)
class CommitInterval:
    #: the main thread's share of one core, as a moving average over the main loop's turns with records
    busy_share: float = 0.0

    def seconds(self, usual_commit_seconds: float) -> float:
        idle_share = 1.0 - self.busy_share
        gathering = LEAST_SECONDS / idle_share if idle_share > LEAST_SECONDS / MOST_SECONDS else MOST_SECONDS
        return min(MOST_SECONDS, max(gathering, usual_commit_seconds))

    def after_turn(self, busy_seconds: float, seconds: float) -> "CommitInterval":
        """The main thread worked for `busy_seconds` of the `seconds` between the ends of two turns with records."""
        share = min(1.0, busy_seconds / seconds) if seconds > 0 else 1.0
        return CommitInterval(self.busy_share + NEWEST_TURN_SHARE * (share - self.busy_share))
