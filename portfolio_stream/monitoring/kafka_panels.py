"""The dashboard of Kafka: brokers, copies, disks, and the watcher's probe."""

from portfolio_stream.monitoring.panels import DashboardTable, Panel, PanelQuery, PanelRow, of, quantile, rate
from portfolio_stream.watch import thresholds as limit

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
                    (PanelQuery("sum(deriv(portfolio_stream_source_end_offset[1m]))", "all partitions"),),
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
    ),
)
