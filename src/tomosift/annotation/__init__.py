"""The labeling page: its store, sessions, query queue, background learner and server."""
