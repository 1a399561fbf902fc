"""Tracing for sync jobs."""
__version__ = "0.1.0"
