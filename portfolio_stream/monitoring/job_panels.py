"""The dashboard of the job: workers, partitions, recovery, checkpoints, savepoints, local state."""

from portfolio_stream.monitoring.panels import RATE, DashboardTable, Panel, PanelQuery, PanelRow, of, rate
from portfolio_stream.watch import thresholds as limit

JOB = DashboardTable(
    "portfolio-stream-job",
    "Portfolio stream: job",
    "Workers, partitions, recovery, checkpoints, savepoints, local state, and what Kafka refused.",
    (
        PanelRow(
            "Now",
            (
                Panel(
                    "Partitions that nobody processes",
                    "Although the job is to run: halted, without an owner, or in recovery. None for longer than 30 s.",
                    "short",
                    (PanelQuery("portfolio_stream:partitions:missing", "missing"),),
                    "number",
                    1,
                ),
                Panel(
                    "Job is down",
                    "On while a partition has not been processed for 10 s. No figure while the job is not to run.",
                    "bool_on_off",
                    (PanelQuery(of("job_down"), "down"),),
                    "number",
                    1,
                ),
                Panel(
                    "What the operator wants",
                    "The state of the job: running, paused, stopping, stopped, cancelled or migrating.",
                    "short",
                    (PanelQuery(of("job_state", "state") + " == 1", "{{state}}"),),
                    "word",
                ),
                Panel(
                    "Generation",
                    "Its number grows with every switch to another state of the job.",
                    "short",
                    (PanelQuery(of("job_generation"), "generation"),),
                    "number",
                ),
            ),
        ),
        PanelRow(
            "Workers and partitions",
            (
                Panel(
                    "Workers",
                    "By what they answer to the watcher. All are ready.",
                    "short",
                    (PanelQuery(of("watcher_workers", "state"), "{{state}}"),),
                ),
                Panel(
                    "Partitions",
                    "Of the job, owned, processed, and halted: a halted one waits for an operator.",
                    "short",
                    (
                        PanelQuery(of("job_partitions"), "of the job"),
                        PanelQuery(of("partitions_owned", fold="sum"), "owned"),
                        PanelQuery(of("partitions_running", fold="sum"), "running"),
                        PanelQuery(of("partitions_halted", fold="sum"), "halted"),
                    ),
                ),
                Panel(
                    "Partitions by worker",
                    "How the group has shared them.",
                    "short",
                    (PanelQuery(of("partitions_owned", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Main loops that turn",
                    "On for each worker whose main loop had a turn in the last 30 s and whose membership is confirmed.",
                    "bool_on_off",
                    (
                        PanelQuery(of("up", "instance", "min"), "{{instance}} turns"),
                        PanelQuery(of("member", "instance", "min"), "{{instance}} is a member"),
                    ),
                ),
            ),
        ),
        PanelRow(
            "Group",
            (
                Panel(
                    "Partitions that move",
                    "Partitions that workers got, gave back, or lost. Only while workers come and go.",
                    "ops",
                    (PanelQuery(rate("partition_moves_total", "direction"), "{{direction}}"),),
                ),
                Panel(
                    "Rebalances, expulsions, fencings, aborts",
                    "What happens around a takeover. A steady rate means that workers recover again and again.",
                    "ops",
                    (
                        PanelQuery(rate("rebalances_total"), "rebalances"),
                        PanelQuery(rate("expulsions_total"), "expulsions"),
                        PanelQuery(rate("fencings_total"), "fencings"),
                        PanelQuery(rate("aborts_total"), "aborts"),
                    ),
                ),
                Panel(
                    "Requests that were sent again",
                    "By the step of the transaction and Kafka's error.",
                    "ops",
                    (PanelQuery(rate("retries_total", "step, error"), "{{step}} {{error}}"),),
                ),
                Panel(
                    "Drops",
                    "A worker dropped everything uncommitted and recovered, by reason.",
                    "ops",
                    (PanelQuery(rate("drops_total", "reason"), "{{reason}}"),),
                ),
            ),
        ),
        PanelRow(
            "Recovery",
            (
                Panel(
                    "Changelog records still to replay",
                    "By partition; no line without a recovery.",
                    "short",
                    (PanelQuery(of("recovery_remaining_records", "partition"), "partition {{partition}}"),),
                ),
                Panel(
                    "Time left",
                    "For how long each worker's recoveries will still take; no line without a recovery.",
                    "s",
                    (PanelQuery(of("recovery_seconds_left", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Replayed records",
                    "Changelog records that workers replay in a second.",
                    "ops",
                    (PanelQuery(of("recovery_records_per_second", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Standbys are behind",
                    "Changelog records that a standby partition is behind. A takeover takes as long as the rest takes.",
                    "short",
                    (PanelQuery(of("standby_lag_records", "partition"), "partition {{partition}}"),),
                ),
            ),
        ),
        PanelRow(
            "Checkpoints and savepoints",
            (
                Panel(
                    "Failed share of the checkpoints",
                    "Of the last five minutes. At most 5 %.",
                    "percentunit",
                    (PanelQuery("portfolio_stream:checkpoints:failed_ratio_5m", "failed"),),
                    limit=limit.FAILED_CHECKPOINTS_SHARE,
                ),
                Panel(
                    "Checkpoints by outcome",
                    "Checkpoints of the whole job in five minutes.",
                    "short",
                    (PanelQuery("max by (outcome) (increase(portfolio_stream_checkpoints_total[5m]))", "{{outcome}}"),),
                ),
                Panel(
                    "Age and duration",
                    "Since the trigger of the last complete checkpoint, and how long it took.",
                    "s",
                    (
                        PanelQuery(of("checkpoint_completed_age_seconds", fold="min"), "age"),
                        PanelQuery(of("checkpoint_duration_seconds"), "duration"),
                    ),
                ),
                Panel(
                    "Size of a checkpoint",
                    "The whole state, as the stores estimate it, and what the changelog got since the last one.",
                    "bytes",
                    (
                        PanelQuery(of("checkpoint_state_bytes"), "state"),
                        PanelQuery(of("checkpoint_changelog_bytes"), "changelog"),
                    ),
                ),
                Panel(
                    "Savepoints by outcome",
                    "That ended since the workers started.",
                    "short",
                    (PanelQuery(of("savepoints_total", "outcome"), "{{outcome}}"),),
                ),
                Panel(
                    "Newest savepoint",
                    "When it was complete.",
                    "dateTimeFromNow",
                    (PanelQuery(of("savepoint_completed_timestamp_seconds") + " * 1000", "complete"),),
                    "number",
                ),
                Panel(
                    "Duration of the newest savepoint",
                    "From the request until it was complete.",
                    "s",
                    (PanelQuery(of("savepoint_duration_seconds"), "duration"),),
                    "number",
                ),
                Panel(
                    "Size of the newest savepoint",
                    "Of all its files.",
                    "bytes",
                    (PanelQuery(of("savepoint_bytes"), "size"),),
                    "number",
                ),
            ),
        ),
        PanelRow(
            "Local state and machine",
            (
                Panel(
                    "RocksDB: size",
                    "Files that hold the newest version, by worker.",
                    "bytes",
                    (PanelQuery(of("rocksdb_live_sst_bytes", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "RocksDB: memory",
                    "Rows that are in no file yet, and cached blocks.",
                    "bytes",
                    (
                        PanelQuery(of("rocksdb_memtable_bytes", "instance"), "{{instance}} memtables"),
                        PanelQuery(of("rocksdb_block_cache_bytes", "instance"), "{{instance}} cache"),
                    ),
                ),
                Panel(
                    "RocksDB: compaction",
                    "Bytes still to rewrite. If they only grow, the disk is too slow.",
                    "bytes",
                    (PanelQuery(of("rocksdb_pending_compaction_bytes", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "RocksDB: keys",
                    "As RocksDB estimates them.",
                    "short",
                    (PanelQuery(of("rocksdb_estimated_keys", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "RocksDB: write stops",
                    "On while a store takes no write, because compactions do not keep up.",
                    "bool_on_off",
                    (PanelQuery(of("rocksdb_write_stopped", "instance"), "{{instance}}"),),
                ),
                Panel(
                    "Used share of the workers' disks",
                    "Of the file systems that hold state and savepoints. Below 80 %.",
                    "percentunit",
                    (PanelQuery("portfolio_stream:disk_used:ratio", "{{instance}} {{place}}"),),
                    limit=limit.DISK_SHARE,
                ),
                Panel(
                    "CPU",
                    "Cores that each process keeps busy.",
                    "short",
                    (PanelQuery(f"rate(process_cpu_seconds_total{RATE})", "{{job}} {{instance}}"),),
                ),
                Panel(
                    "Memory",
                    "Resident memory of each process.",
                    "bytes",
                    (PanelQuery("process_resident_memory_bytes", "{{job}} {{instance}}"),),
                ),
            ),
        ),
    ),
)
