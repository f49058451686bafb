"""Playground: a page that shows a session and its recommendations."""
