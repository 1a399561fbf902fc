"""A directory for PYTHONPATH: with it first, a program that uses otelsync runs without it."""
