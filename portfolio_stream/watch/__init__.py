"""What is watched, as literal tables: thresholds, alerts, objectives. Pure: no clock, no I/O."""
