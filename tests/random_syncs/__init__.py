"""Random syncs whose truth is known: programs as trees, run for real, and every view compared with the truth."""
