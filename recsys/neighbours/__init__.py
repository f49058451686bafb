"""Session-based nearest neighbours: V-SKNN and VSTAN."""
