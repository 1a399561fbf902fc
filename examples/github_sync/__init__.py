"""Sync pull requests, reviews, files and commits from GitHub into SQLite, traced by otelsync."""
