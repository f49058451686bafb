"""Processes of the service and limits of its connections."""
