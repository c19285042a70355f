"""What `tools.build` and `tools.size` are made of: from sources to what a board runs, and how big that is."""
