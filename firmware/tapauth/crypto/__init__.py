"""What proves who wrote something, and compares secrets. I/O: the two files of the site key."""
