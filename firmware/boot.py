# Runs before main.py, also when a technician interrupts: nothing here may fail or wait.
