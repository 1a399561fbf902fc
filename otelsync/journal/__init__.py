"""The journal: memory-mapped files of finished telemetry that outlive their process, written and read."""
