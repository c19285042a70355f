# The PN532 library imports these names; its own pin handling is not used here.
Direction = DigitalInOut = None
