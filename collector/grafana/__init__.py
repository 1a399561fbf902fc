"""Grafana: data sources, and dashboards that are made by code."""
