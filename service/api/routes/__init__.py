"""The HTTP face: each route parses, delegates once, and answers."""
