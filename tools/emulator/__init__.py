"""An emulated Pico W: MicroPython's own image for that board in the emulator rp2040py.

Two processes. The board runs in a Python of its own that has rp2040py (`pico`, and what it
imports: `repairs`, `pl011`, `usb_console`, `reader`, `network`, `way_in`, `tcp_call`, `pacing`);
everything else runs in the project's (`board` starts the other and speaks with it, `charger` puts
broker and EVSEs around it, `ready_flash` makes its flash, `__main__` is `make emu`).
"""
