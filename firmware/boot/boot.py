# Runs before main.py, also when a technician interrupts: nothing here may fail or wait.
import gc

# Collect early and often: what stays then lies together, and large blocks stay free.
gc.threshold(8192)  # type: ignore[attr-defined]
try:
    # A watchdog outlives a soft reset, and would end what a technician does at the console.
    import boot_hal

    boot_hal.keep_alive()
except ImportError:
    pass  # a board without slots
except Exception as error:
    print("boot:", error)
