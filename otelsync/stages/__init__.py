"""Stages: the vocabulary of a sync, each a span with an outcome, with progress, rate limits and waits."""
