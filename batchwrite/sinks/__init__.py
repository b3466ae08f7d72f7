"""What a chunk is applied to."""
