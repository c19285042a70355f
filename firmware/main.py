# Starts the firmware. What it starts, and what happens when that fails: tapauth_boot.py.
import tapauth_boot

tapauth_boot.main()
