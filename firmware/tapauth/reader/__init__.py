"""The card reader: chip protocol, scanning, and the loop that runs it."""
