"""The report of an erasure as one HTML file that needs nothing else: no script, no network, no other file."""
