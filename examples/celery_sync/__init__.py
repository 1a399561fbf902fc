"""The same sync in Celery workers: one task a repository, and a pipeline that ends when the last of them has."""
