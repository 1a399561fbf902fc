"""What spans of HTTP calls say, whichever client makes them: routes, hosts, waits, and who may learn of a trace."""
