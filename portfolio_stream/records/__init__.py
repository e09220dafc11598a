"""The wire format: checks the JSON of events and prices, decodes events, encodes outputs and dead letters.

Equal arguments give equal bytes.
"""
