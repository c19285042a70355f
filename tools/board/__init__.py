"""A board at a serial port: what is asked of it, sent to it and made for it."""
