"""Times of the attribution: which list a click came from.

A click came from a list that showed its item to the same user: the list that the click names, else
the newest one that was logged before the click, within a window. The list that answers a click is
logged after it, so an unnamed click never counts for it. `data/events/attribution.py` reads the
events folder so, `service/collector/shown_lists.py` the streams.
"""

WINDOW_SECONDS = 1800.0  # longest time from a list to a click that does not name it
LATE_SECONDS = 1.0  # a list is logged in the background, so perhaps after a click that names it
