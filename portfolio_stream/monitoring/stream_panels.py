"""The dashboard of the stream: verdict, alerts, objectives, throughput, latency, lag."""

from portfolio_stream.monitoring.panels import (
    RATE,
    SENT_RATE,
    WITHIN_OBJECTIVE,
    DashboardTable,
    Panel,
    PanelQuery,
    PanelRow,
    of,
    quantile,
    rate,
)
from portfolio_stream.watch import thresholds as limit


def _budgets() -> tuple[Panel, ...]:
    left = Panel(
        "Error budgets",
        "What is left of each objective's budget of 30 days. Below 0 the objective is missed.",
        "percentunit",
        (PanelQuery("slo:period_error_budget_remaining:ratio", "{{sloth_slo}}"),),
        limit=0,
        is_floor=True,
    )
    burns = Panel(
        "Burn rates",
        "How many times faster than allowed each budget burned in the last hour. At 14.4 a page is sent.",
        "short",
        (
            PanelQuery(
                "slo:sli_error:ratio_rate1h / on (sloth_id) group_left () slo:error_budget:ratio",
                "{{sloth_slo}}",
            ),
        ),
        limit=14.4,
    )
    return left, burns


STREAM = DashboardTable(
    "portfolio-stream",
    "Portfolio stream",
    "Whether events are processed exactly once and in time: verdict, alerts, objectives, throughput, latency, lag.",
    (
        PanelRow(
            "Now",
            (
                Panel(
                    "Exactly-once",
                    "What the auditor says: holds, violated, unverifiable or starting. A violation has no budget.",
                    "short",
                    (PanelQuery(of("audit_verdict", "verdict") + " == 1", "{{verdict}}"),),
                    "word",
                ),
                Panel(
                    "Age of the verdict",
                    "Since the last pass of the auditor that reached a verdict. Below ten minutes.",
                    "s",
                    (PanelQuery("time() - " + of("audit_verdict_timestamp_seconds"), "age"),),
                    "number",
                    limit.VERDICT_AGE_SECONDS,
                ),
                Panel(
                    "Events in a second",
                    f"Committed source records. Workers can do {limit.CAPACITY_EVENTS_PER_SECOND:,} and more.",
                    "ops",
                    (PanelQuery("portfolio_stream:events:rate_1m", "events"),),
                    "number",
                ),
                Panel(
                    "Latency (p99)",
                    "99 % of the events of the last minute took this or less, from the record in Kafka to its commit.",
                    "s",
                    (PanelQuery("portfolio_stream:event_latency_seconds:p99_1m", "p99"),),
                    "number",
                    limit.SLOW_SECONDS,
                ),
                Panel(
                    "Events that wait",
                    "In all partitions, also those without an owner.",
                    "short",
                    (PanelQuery("portfolio_stream:lag_records:sum", "waiting"),),
                    "number",
                    limit.HIGH_LAG_RECORDS,
                ),
            ),
        ),
        PanelRow(
            "Alerts and objectives",
            (
                Panel(
                    "Alerts",
                    "Alerts of Prometheus that are pending or fire. None.",
                    "short",
                    (PanelQuery('ALERTS{alertname!=""}', "{{priority}} {{alertname}}"),),
                    "table",
                ),
                Panel(
                    "Alerts by the watcher",
                    "The watcher judges the same alerts without Prometheus.",
                    "short",
                    (PanelQuery(of("alerts_firing", "alert, priority"), "{{priority}} {{alert}}"),),
                    limit=1,
                ),
                *_budgets(),
            ),
        ),
        PanelRow(
            "Throughput",
            (
                Panel(
                    "Events",
                    "Events that producers send and events that workers commit. Both are alike.",
                    "ops",
                    (
                        PanelQuery(SENT_RATE, "sent"),
                        PanelQuery(rate("events_total"), "committed"),
                    ),
                ),
                Panel(
                    "Events by worker",
                    "Committed source records.",
                    "ops",
                    (PanelQuery(rate("events_total", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Events by outcome",
                    "Accepted, duplicate, or rejected: rejected ones are in the dead letters.",
                    "ops",
                    (PanelQuery(rate("records_total", "outcome, code"), "{{outcome}} {{code}}"),),
                ),
                Panel(
                    "Bytes",
                    "Of committed source records, and of the records that transactions wrote, before compression.",
                    "Bps",
                    (
                        PanelQuery(rate("source_bytes_total"), "read"),
                        PanelQuery(rate("written_bytes_total", "topic"), "written to {{topic}}"),
                    ),
                ),
            ),
        ),
        PanelRow(
            "Latency and lag",
            (
                Panel(
                    "Latency",
                    "From an event's record in Kafka to its commit. The objective is 100 ms for 99 %.",
                    "s",
                    (
                        PanelQuery(quantile(0.5, "event_latency_seconds"), "p50"),
                        PanelQuery(quantile(0.95, "event_latency_seconds"), "p95"),
                        PanelQuery(quantile(0.99, "event_latency_seconds"), "p99"),
                    ),
                    limit=limit.LATENCY_SECONDS,
                ),
                Panel(
                    "Share of the events within 100 ms",
                    "The objective is 99 %.",
                    "percentunit",
                    (
                        PanelQuery(
                            f"{rate(WITHIN_OBJECTIVE)} / ({rate('event_latency_seconds_count')} > 0)",
                            "within 100 ms",
                        ),
                    ),
                    limit=limit.LATENCY_OBJECTIVE / 100,
                    is_floor=True,
                ),
                Panel(
                    "Lag in records",
                    "By partition, as Kafka tells it: also for partitions without an owner.",
                    "short",
                    (PanelQuery(of("group_lag_records", "partition"), "partition {{partition}}"),),
                    limit=limit.LAG_RECORDS,
                ),
                Panel(
                    "Lag in seconds",
                    "For how long the oldest uncommitted record of a partition has waited, at most.",
                    "s",
                    (PanelQuery(of("lag_seconds", "partition"), "partition {{partition}}"),),
                ),
            ),
        ),
        PanelRow(
            "Inside the workers",
            (
                Panel(
                    "Duration of a commit",
                    "From the first request of a commit to the answer that the transaction is committed.",
                    "s",
                    (
                        PanelQuery(quantile(0.5, "commit_seconds"), "p50"),
                        PanelQuery(quantile(0.99, "commit_seconds"), "p99"),
                    ),
                ),
                Panel(
                    "Phases of a commit",
                    "The mean of each phase: encode, reserve, write, end, store.",
                    "s",
                    (
                        PanelQuery(
                            f"{rate('commit_phase_seconds_sum', 'phase')}"
                            f" / ({rate('commit_phase_seconds_count', 'phase')} > 0)",
                            "{{phase}}",
                        ),
                    ),
                ),
                Panel(
                    "Steps: busy",
                    "The share of the time in which each step works. The step near 1 holds the stream up.",
                    "percentunit",
                    (PanelQuery(f"avg by (step) (rate(portfolio_stream_step_busy_seconds_total{RATE}))", "{{step}}"),),
                ),
                Panel(
                    "Steps: backpressured",
                    "The share of the time in which each step waits for the next one.",
                    "percentunit",
                    (
                        PanelQuery(
                            f"avg by (step) (rate(portfolio_stream_step_backpressured_seconds_total{RATE}))", "{{step}}"
                        ),
                    ),
                ),
                Panel(
                    "Records in the queues",
                    "Source records between their fetch and the end of their commit.",
                    "short",
                    (PanelQuery(of("queue_records", "queue", "sum"), "{{queue}}"),),
                ),
                Panel(
                    "Event loop lag (p99)",
                    "How late the event loop woke a sleeping task. Above 0.25 s heartbeats and commits come late.",
                    "s",
                    (PanelQuery(quantile(0.99, "event_loop_lag_seconds", "instance"), "{{instance}}"),),
                    limit=0.25,
                ),
                Panel(
                    "Auditor: records compared",
                    "Source records that the auditor has replayed and compared in a second.",
                    "ops",
                    (PanelQuery(rate("audit_records_total"), "compared"),),
                ),
                Panel(
                    "Auditor: duration of a pass",
                    "A pass compares all partitions.",
                    "s",
                    (PanelQuery(of("audit_pass_seconds"), "pass"),),
                ),
            ),
        ),
    ),
)
