"""The lines that a person at the board can type on its serial console.

pin SECRET      opens the role admin with this PIN until the restart, and ends a lockout
newpin          gives admin a new PIN, and ends a lockout; `newpin user` the same for user
"""

from tapauth.local.login.sessions import ROLES, Refused


def obey(auth, line: str, write=print):
    """Steps: carry out a line for a ConnectionAuth.

    `write(text)` answers, and must reach nothing but the console. Raises OSError.
    """
    verb, _, rest = line.strip().partition(" ")
    if verb == "pin":
        done = auth.set_boot_pin(rest)
        write("until the restart" if done else "6 to 128 characters, please")
    elif verb == "newpin" and (rest or "admin") in ROLES:
        try:
            yield from auth.renew_pin(ROLES[rest or "admin"])
        except Refused as error:
            write(error.args[0])
    else:
        write("pin SECRET, newpin, newpin user")
