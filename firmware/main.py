# Starts the firmware. A refused configuration leaves the board at its console, EVSEs off, so that
# a technician can mend it with mpremote.
from tapauth import app

app.main()
