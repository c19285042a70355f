"""What proves who wrote something, and compares secrets. No I/O but the two files of the site key."""
