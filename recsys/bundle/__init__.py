"""Bundle: the folder that training writes and the service loads."""
