"""Two-person conversations rendered with exact truth."""
