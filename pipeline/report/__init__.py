"""What a run is worth, on one page."""
