"""Tests of sync jobs: record what a test does, in this process and in others, and hold its trace against a literal.

with otelsync.testing.record(directory) as recorded:
    onboard("acme/api")
assert_span_tree(
    recorded,
    '''
    sync.pipeline github.onboarding  [success]
      sync.repo acme/api             [partial]
        sync.api list_pull_requests  [success]
          sync.pr                    x100 (2 failed)
    ''',
)

With pytest, the fixture ``recorded`` does the first. pytest is not needed for the rest.
"""

from otelsync.testing.drawing import assert_span_tree, span_tree
from otelsync.testing.reading import Kind, Log, Span
from otelsync.testing.recording import Recorded, record, undeclared_events

__all__ = ["Kind", "Log", "Recorded", "Span", "assert_span_tree", "record", "span_tree", "undeclared_events"]
