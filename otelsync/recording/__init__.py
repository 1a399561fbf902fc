"""Recording: what happens in the host's threads, from the start of a span to bytes in the journal."""
