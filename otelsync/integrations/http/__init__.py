"""Spans of HTTP calls, whichever client makes them: routes, hosts, waits, and who may learn of a trace."""
