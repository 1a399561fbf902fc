"""Shipping: what happens outside the host's hot path, from journals to a Collector and the local store."""
