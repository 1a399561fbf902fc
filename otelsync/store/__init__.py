"""The local store: one SQLite file of runs, spans and records, written and read."""
