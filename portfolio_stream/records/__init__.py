"""The wire format: events in, outputs, dead letters and table values out.

Bytes are a function of the arguments alone.
"""
