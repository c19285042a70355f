# Runs before main.py, also when a technician interrupts: nothing here may fail or wait.
import gc

# Collect early and often: what stays then lies together, and large blocks stay free.
gc.threshold(8192)  # type: ignore[attr-defined]
