"""Commands that operators know from other tools: small shell scripts, which `portfolio-stream shell` puts on PATH.

table.py has all of them.
"""
