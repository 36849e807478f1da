"""Measurements, to be repeated by whoever doubts them: each prints a table, and none asserts a time."""
