"""Servers of applications, for the tests that need listeners or faults."""
