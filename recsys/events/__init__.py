"""Events: clicks, the lists that were shown, and deletions, as the feedback keeps them."""
