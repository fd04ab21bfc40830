"""SAM's image encoder, and the file its weights are in."""
