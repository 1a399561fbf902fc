"""Settings: what otelsync was told, by arguments and environment variables, checked."""

from otelsync.settings.options import REPORTS, Settings, names_service

__all__ = ["REPORTS", "Settings", "names_service"]
