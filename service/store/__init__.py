"""Storage of sessions in Redis: clicks, cached hidden states, and the scripts that change them."""
