"""What runs on the desktop: build, the desktop charger, its simulated parts, measurements."""
