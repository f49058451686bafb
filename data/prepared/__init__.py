"""Prepared clicks on disk: a folder that training opens as memory maps instead of reading a log."""
