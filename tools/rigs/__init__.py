"""What tests and benchmarks put around real parts of the firmware."""
