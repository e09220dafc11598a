"""Incidents: reports by the runbook's template, and the game days that practise them."""
