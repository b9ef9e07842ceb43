"""The data plane: from AWS constructs (`dataplane.model`) over neutral programs to packets decided by `fastpath`."""
