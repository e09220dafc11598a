"""The watcher: a process of its own that sees Kafka, the job, its workers and its auditor from outside.

It runs when all workers or all brokers are dead, and changes nothing but its probe's topic. What it judges by are the
tables of `portfolio_stream.watch`.
"""
