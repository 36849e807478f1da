"""Tests; they mirror the package's tree, and run against the package that is installed."""
