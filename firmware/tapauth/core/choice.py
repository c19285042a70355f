"""Which EVSE an accepted token gets, and what keeps it from there: rules that change nothing.

The Authorizer asks in this order:

    any_available()   could the token start anything at all, of the EVSEs it refers to?
    is_in_time()      has a validator's result expired, when all have answered?
    select()          which EVSE now; None: one at which a car has yet to be plugged in
    permits_any()     ... if the result allows one of them, else the token need not wait
    refusal()         is that EVSE allowed, and is the result in time still?
    is_eligible()     may the plug-in that has just come be used by a token that waits?

A result is a checked ValidationResult, an EVSE is an Evse; the functions read both and change
neither, so they can be asked as often as one likes.

The winner of a choice: first an EVSE that spares the driver a refusal or a dead plug, then the
algorithm's.
`select` orders the EVSEs as the algorithm wants them, gives each its drawbacks, and takes the
first of those with the least:

    0  may be used
    1  the validator does not permit it: the driver is refused there, and knows why
    2  its plug is faulted: the driver would wait in vain
    3  both

So an EVSE that is not permitted is chosen when nothing better is there, only to be refused: that
tells the driver at once that he is at the wrong EVSE.
"""

from tapauth.core.timestamps import parse_rfc3339

ALGORITHMS = ("FindFirst", "PlugEvents", "PlugEventsLIFO")


def is_accepted(result: dict) -> bool:
    """Whether a ValidationResult lets its token in."""
    return result["authorization_status"] == "Accepted"


def permits(result: dict, evse) -> bool:
    """Whether the validator lets its token use this EVSE; without `evse_ids`, any."""
    return "evse_ids" not in result or evse.id in result["evse_ids"]


def permits_any(result: dict, evses: list) -> bool:
    """Whether the validator lets its token use one of these EVSEs."""
    for evse in evses:
        if permits(result, evse):
            return True
    return False


def any_available(evses: list) -> bool:
    """Whether a token could start a transaction at one of them."""
    for evse in evses:
        if evse.is_available():
            return True
    return False


def is_in_time(result: dict, unix: int | None, without_clock: bool) -> bool:
    """Whether a result has not expired at `unix` seconds; while the time is None, the setting
    `without_clock` says whether one with an expiry counts.
    """
    expiry = result.get("expiry_time")
    if expiry is None:
        return True
    if unix is None:
        return without_clock
    # A time that nobody can read lets nobody in.
    at = parse_rfc3339(expiry)
    return at is not None and unix < at


def is_eligible(evse, algorithm: str) -> bool:
    """Whether a plug-in at this EVSE may be used. Faults do not matter here, and nor does a
    transaction without a grant, unless for FindFirst: the EVSE may have been quicker than the
    validator.
    """
    # Nobody can take over a transaction that is being stopped.
    if evse.grant or evse.stopping or evse.is_unavailable():
        return False
    return not evse.transaction_active or algorithm != "FindFirst"


def select(result: dict, candidates: list, plug_ins: list, algorithm: str):
    """The EVSE for a token now; None: none yet, which cannot be with FindFirst.

    `candidates` are those that the token may be authorized at, `plug_ins` those where a plug-in
    waits, the oldest first. A plug-in whose connector is faulted is the last choice. `evse_ids`
    limits the EVSE that is selected, not the candidates: one that is permitted is preferred, and
    without any the algorithm's choice stands, to be refused.
    """
    if len(candidates) == 1:
        # There is nothing to choose, so no plug-in to wait for.
        return candidates[0]
    choices = [evse for evse in plug_ins if evse in candidates and is_eligible(evse, algorithm)]
    if algorithm == "PlugEventsLIFO":
        choices.reverse()
    elif algorithm == "FindFirst":
        # Behind the plug-ins: where a car is plugged in, somebody waits.
        choices += [evse for evse in candidates if evse.is_available()]
    chosen = None
    least = 4
    for evse in choices:
        # The first of equals stays chosen, so that the algorithm's order stands.
        drawback = 2 * evse.is_plug_faulty() + (not permits(result, evse))
        if drawback < least:
            chosen = evse
            least = drawback
    return chosen


def refusal(result: dict, evse, unix: int | None, without_clock: bool) -> str | None:
    """The AuthorizationStatus that keeps an accepted token from `evse`; None: nothing does."""
    if not permits(result, evse):
        return "NotAtThisLocation"
    return None if is_in_time(result, unix, without_clock) else "Expired"
