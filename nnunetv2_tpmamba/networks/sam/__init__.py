"""SAM's image encoder, and the file that holds its weights."""
