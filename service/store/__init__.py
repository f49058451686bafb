"""The session store: clicks and hidden states of users in Redis."""
