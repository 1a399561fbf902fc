"""What tracing costs: otelsync beside its peers, on one workload, in interleaved rounds."""
