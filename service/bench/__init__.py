"""`recsys bench`: how many requests a running service answers, and how long each of them takes."""
