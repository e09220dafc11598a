"""Prometheus and Alertmanager for one system: their configuration, their processes, and what they say."""
