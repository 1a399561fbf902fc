"""Folding: what the OTLP endpoints are given in place of every record, so that traces stay readable."""
