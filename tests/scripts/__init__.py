"""What starts, sets up and checks a checkout."""
