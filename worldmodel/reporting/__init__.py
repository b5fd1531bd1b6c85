"""What a run says of itself: its evaluation with pictures, and one HTML page of everything."""
