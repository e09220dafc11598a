"""The parts of a started engine: connections, stores and counters, all of them open.

The start of the engine makes one `Equipment`. Each module of the main loop takes the parts that it needs from there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from portfolio_stream.exactly_once.commits import Commits
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.recovery import Recovery, Source
from portfolio_stream.exactly_once.repeats import Repeats
from portfolio_stream.exactly_once.signals import Signals
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.standby import Standbys
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.views import Views
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.kafka.connections import Client, Reader
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.observe.ring import Tell
from portfolio_stream.observe.statistics import Statistics

#: writes the dead letter of a slice's one record
WriteDeadLetter = Callable[[Slice], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Equipment:
    configuration: Configuration
    client: Client
    coordinators: Coordinators
    source: Source
    #: id of the changelog topic
    changelog_id: str
    #: reads the source topic
    reader: Reader
    writer: Writer
    membership: Membership
    recovery: Recovery
    standbys: Standbys
    store: Store
    partitions: Partitions
    views: Views
    commits: Commits
    repeats: Repeats
    statistics: Statistics
    signals: Signals
    #: keeps a worker event for GET /events, and writes it to the log
    tell: Tell
    #: None if the app does not say how a record becomes a dead letter
    write_dead_letter: WriteDeadLetter | None = None
