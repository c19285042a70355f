# Starts the firmware. What it starts, and what happens when that fails: tapauth_slot.py.
import tapauth_slot

tapauth_slot.main()
