"""A simulated PN532 card reader chip: its buses, and the faults that it has on demand."""
