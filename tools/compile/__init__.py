"""What `tools.build` and `tools.size` are made of: from sources to what a board runs."""
