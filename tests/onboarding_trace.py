"""The trace of a small onboarding, as a test of its journey holds it and docs/github-sync.md shows it."""

from __future__ import annotations

TREE = """
sync.pipeline github.onboarding                  [partial]
  apply_async/github_sync.analyse                -> run/github_sync.enter_phase
    run/github_sync.analyse                      [success]
      sync.stage analyse.patterns                [success]
  apply_async/github_sync.compute_metrics        -> run/github_sync.enter_phase
    run/github_sync.compute_metrics              [success]
      sync.stage weekly_metrics                  [success]
  apply_async/github_sync.enter_phase
    run/github_sync.enter_phase                  [success] HEADERS
  apply_async/github_sync.enter_phase            -> run/github_sync.analyse
    run/github_sync.enter_phase                  [success]
  apply_async/github_sync.enter_phase            -> run/github_sync.compute_metrics
    run/github_sync.enter_phase                  [success]
  apply_async/github_sync.start_rest             -> run/github_sync.enter_phase
    run/github_sync.start_rest                   [success]
      sync.pipeline github.onboarding.rest       [partial]
        apply_async/github_sync.analyse          -> run/github_sync.enter_phase
          run/github_sync.analyse                [success]
            sync.stage analyse.patterns          [success]
        apply_async/github_sync.compute_metrics  -> run/github_sync.enter_phase
          run/github_sync.compute_metrics        [success]
            sync.stage weekly_metrics            [success]
        apply_async/github_sync.enter_phase
          run/github_sync.enter_phase            [success] HEADERS
        apply_async/github_sync.enter_phase      -> run/github_sync.analyse
          run/github_sync.enter_phase            [success]
        apply_async/github_sync.enter_phase      -> run/github_sync.compute_metrics
          run/github_sync.enter_phase            [success]
        apply_async/github_sync.sync_history
          run/github_sync.sync_history           [success]
            sync.repo acme/billing-api           [success]
              sync.api PullRequests              [success] page=1
                POST                             200
        apply_async/github_sync.sync_history
          run/github_sync.sync_history           [success]
            sync.repo acme/checkout-api          [success]
              sync.api PullRequests              [success] page=1
                POST                             200
                sync.pr                          x9
        apply_async/github_sync.sync_history
          run/github_sync.sync_history           [success]
            sync.repo acme/unknown               [failure]
              sync.api PullRequests              [failure] page=1
                POST                             200
  apply_async/github_sync.sync_history
    run/github_sync.sync_history                 [success]
      sync.repo acme/billing-api                 [success]
        sync.api PullRequests                    [success] page=1
          POST                                   200
          sync.pr                                x12
  apply_async/github_sync.sync_history
    run/github_sync.sync_history                 [success]
      sync.repo acme/checkout-api                [success]
        sync.api PullRequests                    [success] page=1
          POST                                   200
          sync.pr                                x3
  apply_async/github_sync.sync_history
    run/github_sync.sync_history                 [success]
      sync.repo acme/unknown                     [failure]
        sync.api PullRequests                    [failure] page=1
          POST                                   200
  sync.api Activity                              [success] page=1
    POST                                         200
"""
"""``HEADERS`` stands for the links with the publishing of each task of the chord."""
