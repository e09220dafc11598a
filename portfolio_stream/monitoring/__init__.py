"""Makes the files of the folder monitoring/ from the tables of `watch/`: Prometheus, Alertmanager, Grafana, Kubernetes.

`python -m portfolio_stream.monitoring.generate` writes them. Nothing here is read by a worker.
"""
