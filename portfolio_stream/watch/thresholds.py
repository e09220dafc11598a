"""Every number of the runbook's tables of SLOs and alerts, once.

Alert rules, objectives, dashboards and the page take the numbers from here.
"""

# -- objectives (the runbook's table "SLOs/SLIs")

LATENCY_SECONDS = 0.1  # from a record's timestamp to its commit; a bound of observe.histogram.LATENCY_BOUNDS
LATENCY_OBJECTIVE = 99.0  # percent of the records: p99 < 100 ms
AVAILABILITY_OBJECTIVE = 99.95  # percent of the probe's round trips
UPTIME_OBJECTIVE = 99.9  # percent of the seconds in which the operator wants the job to run
CHECKPOINT_OBJECTIVE = 99.0  # percent of the checkpoints
LAG_RECORDS = 1_000  # a second with as many records behind, or more, is a bad one
LAG_OBJECTIVE = 99.0  # percent of the seconds; the runbook names no share
CAPACITY_EVENTS_PER_SECOND = 10_000  # a capacity and no objective: a quiet night breaks nothing
WINDOW_DAYS = 30  # of every error budget

# -- alerts (the runbook's table "Alerts")

KAFKA_DOWN_SECONDS = 10.0  # a broker answers within milliseconds; one look may fail
JOB_FAILED_SECONDS = 30.0  # a takeover ends within 6 s, a restart of all workers within 20 s
VERDICT_AGE_SECONDS = 600.0  # the auditor decides every 2 s; a replay from the beginning takes minutes
VERDICT_ABSENT_SECONDS = 60.0  # an auditor starts within seconds
HIGH_LAG_RECORDS = 10_000
HIGH_LAG_SECONDS = 60.0  # a worker that restarts under load works off more than that in less time
BROKER_DOWN_SECONDS = 30.0  # a broker restarts within 20 s
FAILED_CHECKPOINTS_SHARE = 0.05
CHECKPOINTS_WINDOW_SECONDS = 300.0  # 30 checkpoints of 10 s: two failed ones are more than the share
SLOW_SECONDS = 0.5  # p99; a bound of observe.histogram.LATENCY_BOUNDS
SLOW_WINDOW_SECONDS = 60.0
SLOW_FOR_SECONDS = 120.0  # a takeover's late events stay in the window for a minute: the alert is for what lasts
DISK_SHARE = 0.8
DISK_SECONDS = 60.0
MINOR_LAG_RECORDS = 100  # at 10,000 events a second, so many are in flight while all is well
MINOR_LAG_SECONDS = 3_600.0
WATCHER_ABSENT_SECONDS = 60.0

# -- what both have in common

JOB_DOWN_SECONDS = 10.0  # a partition moves to another worker within 6 s: the job runs meanwhile
STUCK_JOB_SECONDS = 900.0  # in `stopping` or `migrating`: the workers give a stop's savepoint up after 600 s
KEEP_SECONDS = 30.0  # an alert that is not true for a shorter time does not clear
ROUND_TRIP_SECONDS = 1.0  # a probe's record that is read later has failed
LOST_SECONDS = 60.0  # an acknowledged record that is not read for so long is lost
