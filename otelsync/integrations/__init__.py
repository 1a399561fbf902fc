"""Integrations with other libraries: one module per library, each with an `Instrumentor`, found by being there."""
