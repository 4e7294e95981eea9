"""Comparison of recommenders on one split: runs, ranks per user, statistics, slices, report."""
