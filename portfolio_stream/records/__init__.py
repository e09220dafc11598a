"""The wire format: decodes events and prices, encodes outputs, dead letters and table values.

Equal arguments give equal bytes.
"""
