"""What otelsync knows of other libraries: one module a library, each with an `Instrumentor`, found by being there."""
