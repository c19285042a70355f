"""A charger around the authorization core, with a clock that only the test moves.

Effects are carried out at once: EVSE commands move `flags` (who is authorized where) and are
kept in `commands`, statuses are kept as letters. Validators answer at once unless `held`.
"""

from tapauth.core import authorizer
from tapauth.core.authorizer import Authorizer
from tapauth.core.settings import AuthSettings

LETTERS = {
    "Processing": "P",
    "Accepted": "A",
    "Rejected": "R",
    "UsedToStart": "S",
    "UsedToStop": "X",
    "TimedOut": "O",
    "Withdrawn": "W",
    "UsedToReauthorize": "U",
}

T1 = "VALID_RFID_1"
T2 = "VALID_RFID_2"
T3 = "VALID_RFID_3"
INV = "INVALID_RFID"
PAR = "PARENT_RFID"


def id_token(value, type="ISO14443"):
    return {"value": value, "type": type}


def token(value, connectors=None, **members):
    """A ProvidedIdToken; without `connectors` it is for every EVSE."""
    made = {"id_token": id_token(value), "authorization_type": "RFID"}
    if connectors is not None:
        made["connectors"] = list(connectors)
    made.update(members)
    return made


def result(status="Accepted", parent=None, **members):
    """A ValidationResult."""
    made = {"authorization_status": status, "tariff_messages": []}
    if parent:
        made["parent_id_token"] = id_token(parent)
    made.update(members)
    return made


def with_members(base, **members):
    """A copy of a dict with more members, or other ones."""
    made = dict(base)
    made.update(members)
    return made


def first_validator(provided):
    return result("Invalid")


def second_validator(provided):
    value = provided["id_token"]["value"].upper()
    if value in (T1, T3):
        return result(parent=PAR)
    return result() if value == T2 else result("Invalid")


def always(*results):
    """Validators with these answers."""
    return [lambda provided, answer=answer: answer for answer in results]


VALIDATORS = (first_validator, second_validator)


class Charger:
    """EVSE 1 has one connector, EVSE 2 has two, unless told otherwise."""

    def __init__(self, connectors=(1, 2), validators=VALIDATORS, **values):
        settings = {
            "selection_algorithm": "PlugEvents",
            "connection_timeout": 1,
            "plug_in_timeout_enabled": True,
            "prioritize_authorization_over_stopping_transaction": False,
        }
        settings.update(values)
        self.validators = validators
        self.auth = Authorizer(AuthSettings(**settings), list(connectors), len(validators))
        self.now = 0
        self.flags = [0] * len(connectors)
        self.statuses = []
        self.commands = []
        self.saved = []
        self.held = None
        self.requests = []

    def hold(self):
        """Let validators answer only when the test says so."""
        self.held = True
        return self

    def carry_out(self):
        while True:
            effects = self.auth.take_effects()
            if not effects:
                return
            for effect in effects:
                kind = effect[0]
                if kind == authorizer.STATUS:
                    self.statuses.append(effect[1:])
                elif kind == authorizer.VALIDATE:
                    if self.held:
                        self.requests.append(effect[1:])
                    else:
                        answer = self.validators[effect[2]](effect[3])
                        self.auth.validation_result(effect[1], answer, self.now)
                elif kind == authorizer.SAVE:
                    self.saved.append(effect[1:])
                else:
                    self.commands.append(effect)
                    ok = kind == authorizer.AUTHORIZE_RESPONSE and (
                        effect[3]["authorization_status"] == "Accepted"
                    )
                    self.flags[effect[1] - 1] = int(ok)

    def swipe(self, value, connectors=None, **members):
        return self.provide(token(value, connectors, **members))

    def provide(self, provided):
        error = self.auth.provide_token(provided, self.now)
        self.carry_out()
        return error

    def answer(self, answer, settled=False, request_id=None):
        """Answer the oldest held request, or the one of that id."""
        if request_id is None:
            request_id = self.requests.pop(0)[0]
        error = self.auth.validation_result(request_id, answer, self.now, settled)
        self.carry_out()
        return error

    def update(self, evse_id, answer):
        update = {"connector_id": evse_id, "validation_result": answer}
        error = self.auth.validation_result_update(update, self.now)
        self.carry_out()
        return error

    def event(self, evse_id, name, connector=None, **members):
        event = {"event": name}
        if connector is not None:
            event["connector_id"] = connector
        event.update(members)
        error = self.auth.session_event(evse_id, event, self.now)
        self.carry_out()
        return error

    def ev(self, evse_id):
        return self.event(evse_id, "SessionStarted", session_started={"reason": "EVConnected"})

    def tx(self, evse_id):
        return self.event(evse_id, "TransactionStarted")

    def end(self, evse_id):
        return self.event(evse_id, "SessionFinished")

    def flt(self, evse_id, connector):
        return self.event(evse_id, "PermanentFault", connector)

    def fault_all_of_2(self):
        self.flt(2, 1)
        self.flt(2, 2)

    def withdraw(self, request=None, **members):
        """The result for the request, or for one of these members."""
        done = self.auth.withdraw(members if request is None else request, self.now)
        self.carry_out()
        return done

    def group(self, group_id=PAR):
        """Set the master pass group."""
        done = self.auth.set_master_pass_group_id(group_id, self.now)
        self.carry_out()
        return done

    def wait(self, ms):
        """Let time pass, polling exactly when the core asks for it."""
        end = self.now + ms
        while True:
            due = self.auth.next_deadline()
            if due is None or due > end:
                break
            self.now = max(due, self.now)
            self.auth.poll(self.now)
            self.carry_out()
        self.now = end

    def letters(self, value=T1):
        """The statuses published for a token, a letter each."""
        found = ""
        for status in self.statuses:
            if status[0]["id_token"]["value"].upper() == value.upper():
                found += LETTERS[status[1]]
        return found

    def last(self, status):
        """The token last published with that status."""
        for published in reversed(self.statuses):
            if published[1] == status:
                return published[0]
        raise AssertionError("never published: " + status)

    def forget(self):
        """Forget the statuses and commands so far."""
        self.statuses = []
        self.commands = []

    def kinds(self):
        """The EVSE commands so far: kind and EVSE id."""
        return [command[:2] for command in self.commands]

    def counter(self, name):
        return self.auth.counters[name]


def started(evse_id=1, value=T1, connectors=None, **settings):
    """A charger where a token has been granted at an EVSE by plug-in, and its transaction runs."""
    charger = Charger(**settings)
    charger.ev(evse_id)
    charger.swipe(value, [evse_id] if connectors is None else connectors)
    charger.tx(evse_id)
    assert charger.letters(value) == "PAS", charger.statuses
    charger.forget()
    return charger


def orders(steps):
    """Every order of some steps."""
    if len(steps) < 2:
        return [steps]
    found = []
    for i in range(len(steps)):
        for rest in orders(steps[:i] + steps[i + 1 :]):
            found.append([steps[i]] + rest)
    return found


def each_order(make, *steps):
    """A charger for each order of the steps, which are functions of it, after they have run."""
    for order in orders(list(steps)):
        charger = make()
        for step in order:
            step(charger)
        yield charger
