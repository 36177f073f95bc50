"""What is found and what is not, at every depth, and what leaves in the end."""
