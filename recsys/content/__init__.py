"""Content of items: attributes and vectors to an item vector, also of an item without a click."""
