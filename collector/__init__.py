"""The backends that otelsync is tried against: how they are built, configured, and run together on one machine."""
