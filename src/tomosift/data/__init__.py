"""The set of subtomograms on disk: shards, particle table, labels, splits, batches and episodes."""
