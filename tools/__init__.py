"""What runs on the desktop: build, the desktop charger, its simulated parts, measurements."""

import sys

# Tools use the firmware's own code. (MicroPython imports this too, and has no pathlib.)
_firmware = __file__.replace("\\", "/").rsplit("/", 2)[0] + "/firmware"
sys.path.extend([_firmware, _firmware + "/boot", _firmware + "/shims"])
