"""The dashboard of Kafka: brokers, copies, disks, and the watcher's probe."""

from portfolio_stream.monitoring.panels import (
    RATE,
    SENT_RATE,
    DashboardTable,
    Panel,
    PanelQuery,
    PanelRow,
    of,
    quantile,
    rate,
)
from portfolio_stream.watch import thresholds as limit


def jmx_rate(name: str, topic: str = '{topic=""}') -> str:
    """Returns a rate of each broker. A figure without a topic is the sum over all topics."""
    return f"sum by (instance) (rate(kafka_{name}{topic}{RATE}))"


KAFKA = DashboardTable(
    "portfolio-stream-kafka",
    "Portfolio stream: Kafka",
    "Brokers, copies, disks, and a probe that produces records and reads them back. The watcher tells all of it.",
    (
        PanelRow(
            "Now",
            (
                Panel(
                    "Brokers that live",
                    "Registered brokers that Kafka gets heartbeats of. All of them.",
                    "short",
                    (PanelQuery(of('kafka_brokers{state="live"}'), "live"),),
                    "number",
                    1,
                    is_floor=True,
                ),
                Panel(
                    "Brokers that are away",
                    "Registered brokers without a heartbeat. None.",
                    "short",
                    (PanelQuery(of('kafka_brokers{state="away"}'), "away"),),
                    "number",
                    1,
                ),
                Panel(
                    "Active controller",
                    "On while the brokers' quorum has a leader.",
                    "bool_on_off",
                    (PanelQuery(of("kafka_controller"), "controller"),),
                    "number",
                    1,
                    is_floor=True,
                ),
                Panel(
                    "Round trips lost",
                    "Records of the probe that Kafka has acknowledged and that nobody could read. None, ever.",
                    "short",
                    (PanelQuery(of('probe_round_trips_total{outcome="lost"}', fold="sum"), "lost"),),
                    "number",
                    1,
                ),
            ),
        ),
        PanelRow(
            "Copies",
            (
                Panel(
                    "Partitions that lack something",
                    "Partitions of all topics without a leader (offline), with fewer copies in sync than"
                    " min.insync.replicas, or with fewer than they should have. None.",
                    "short",
                    (PanelQuery(of("kafka_partitions", "state"), "{{state}}"),),
                    limit=1,
                ),
                Panel(
                    "Brokers",
                    "Registered brokers, with and without a heartbeat.",
                    "short",
                    (PanelQuery(of("kafka_brokers", "state"), "{{state}}"),),
                ),
            ),
        ),
        PanelRow(
            "Probe",
            (
                Panel(
                    "Round trips by outcome",
                    "Records that the watcher produces with acks=all and reads back. All complete.",
                    "ops",
                    (PanelQuery(rate("probe_round_trips_total", "outcome"), "{{outcome}}"),),
                ),
                Panel(
                    "Duration of a round trip",
                    "From the beginning of a round trip until its record was read. A second is too long.",
                    "s",
                    (
                        PanelQuery(quantile(0.5, "probe_round_trip_seconds"), "p50"),
                        PanelQuery(quantile(0.99, "probe_round_trip_seconds"), "p99"),
                    ),
                    limit=limit.ROUND_TRIP_SECONDS,
                ),
            ),
        ),
        PanelRow(
            "Disks and load",
            (
                Panel(
                    "Used share of the brokers' disks",
                    "Of the file systems that hold the brokers' log folders. Below 80 %.",
                    "percentunit",
                    (PanelQuery("portfolio_stream:kafka_disk_used:ratio", "broker {{broker}} {{dir}}"),),
                    limit=limit.DISK_SHARE,
                ),
                Panel(
                    "Room on the brokers' disks",
                    "What a broker can still write.",
                    "bytes",
                    (PanelQuery(of("kafka_disk_usable_bytes", "broker, dir"), "broker {{broker}} {{dir}}"),),
                ),
                Panel(
                    "Records that producers send",
                    "Growth of the source's last stable offsets, transaction markers included.",
                    "ops",
                    (PanelQuery(SENT_RATE, "all partitions"),),
                ),
                Panel(
                    "Members of the group",
                    "The workers. A stranger in the group takes partitions that nobody processes then.",
                    "short",
                    (
                        PanelQuery(of("group_members"), "members"),
                        PanelQuery(of("foreign_members"), "strangers"),
                    ),
                ),
            ),
        ),
        PanelRow(
            "Inside the brokers, by the JMX exporter",
            (
                Panel(
                    "Records in",
                    "That each broker takes in a second, for all topics.",
                    "ops",
                    (PanelQuery(jmx_rate("server_brokertopicmetrics_messagesin_total"), "{{instance}}"),),
                ),
                Panel(
                    "Bytes in and out",
                    "From producers and to consumers, without copies between brokers.",
                    "Bps",
                    (
                        PanelQuery(jmx_rate("server_brokertopicmetrics_bytesin_total"), "{{instance}} in"),
                        PanelQuery(jmx_rate("server_brokertopicmetrics_bytesout_total"), "{{instance}} out"),
                    ),
                ),
                Panel(
                    "Duration of requests (p99)",
                    "From the request to its answer. A fetch may wait for records, so its time is no fault by itself.",
                    "ms",
                    (
                        PanelQuery(
                            'max by (instance, request) (kafka_network_requestmetrics_totaltimems{quantile="0.99"})',
                            "{{instance}} {{request}}",
                        ),
                    ),
                ),
                Panel(
                    "Idle request handlers",
                    "The share of the time in which a broker's threads have nothing to do. Above 30 %.",
                    "percentunit",
                    (
                        PanelQuery(
                            "min by (instance)"
                            " (kafka_server_kafkarequesthandlerpool_brokerrequesthandleravgidle_percent)",
                            "{{instance}}",
                        ),
                    ),
                    limit=0.3,
                    is_floor=True,
                ),
                Panel(
                    "Copies that fall behind and catch up",
                    "Shrinks and expansions of the sets of copies in sync. Only while a broker is away or comes back.",
                    "ops",
                    (
                        PanelQuery(jmx_rate("server_replicamanager_isrshrinks_total", ""), "{{instance}} shrinks"),
                        PanelQuery(jmx_rate("server_replicamanager_isrexpands_total", ""), "{{instance}} expansions"),
                    ),
                ),
                Panel(
                    "Partitions that each broker leads",
                    "Alike for all brokers, or one of them does the work of the others.",
                    "short",
                    (PanelQuery("max by (instance) (kafka_server_replicamanager_leadercount)", "{{instance}}"),),
                ),
                Panel(
                    "Size of the topics",
                    "On all brokers, copies included.",
                    "bytes",
                    (PanelQuery("sum by (topic) (kafka_log_log_size)", "{{topic}}"),),
                ),
                Panel(
                    "Fenced brokers",
                    "Brokers that the active controller does not count on. None.",
                    "short",
                    (PanelQuery("max(kafka_controller_kafkacontroller_fencedbrokercount)", "fenced"),),
                    limit=1,
                ),
            ),
            quiet="the brokers run without PORTFOLIO_JMX_EXPORTER_PORT",
        ),
    ),
)
