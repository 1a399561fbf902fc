"""Reaching into other libraries: functions replaced and restored, imports awaited, our own faults contained."""
