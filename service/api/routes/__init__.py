"""Routes of the API: each parses its request, delegates once and answers."""
