"""Metrics, reports and benchmarks computed from predictions."""
