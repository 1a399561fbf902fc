"""Programs that use otelsync as a user would; each runs alone."""
