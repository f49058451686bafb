"""The recurrent session model and the ranking of its scores."""
