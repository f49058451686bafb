"""Tests, and the scripts that measure or break a running service."""
