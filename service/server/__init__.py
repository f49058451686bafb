"""Processes and sockets of the service: workers, HTTP limits, an embedded Redis."""
