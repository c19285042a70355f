"""The edge to the EVSEs: session events in, commands out."""
