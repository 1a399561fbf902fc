"""Metrics: counted from the records that are shipped, sent by OTLP and served to Prometheus."""
