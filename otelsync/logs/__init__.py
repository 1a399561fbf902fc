"""Logs: one path for every record, from structlog or the standard library, to the terminal and the journal."""
