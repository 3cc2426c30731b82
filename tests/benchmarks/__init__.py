"""Measurements: `make bench` runs them all in one go and prints ratios against what a user would write instead."""
