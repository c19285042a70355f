"""Small files: replaced as a whole, whatever fails; and the files of boards in the field."""

from ram_fs import BrokenFs, RamFs, StumblingFs

from tapauth import small_file
from tapauth.config_trial import ConfigTrial
from tapauth.local.login.kept import StateFile
from tapauth.rpc.records import GOOD, RecordFile

EIO = 5
ERRORS = (OSError(EIO), MemoryError())


def error_of(function, *arguments):
    """The exception that a call raises, or None."""
    try:
        function(*arguments)
    except Exception as error:
        return error
    return None


def content(fs, path):
    return small_file.read(fs, path, lambda file: file.read(100), "unreadable")


def test_a_file_is_replaced_and_nothing_stays_beside_it():
    fs = RamFs()
    for pieces in ((b"one",), (b"t", b"w", b"o"), ()):
        small_file.replace(fs, "/f", pieces)
        assert content(fs, "/f") == b"".join(pieces)
        assert list(fs.files) == ["/f"]


def test_power_that_goes_between_two_steps_leaves_the_old_or_the_new():
    found = set()
    for left in range(3):
        fs = BrokenFs()
        small_file.replace(fs, "/f", (b"old",))
        fs.left = left
        error = error_of(small_file.replace, fs, "/f", (b"new",))
        assert (error is None) == (content(fs, "/f") == b"new")
        found.add(content(fs, "/f"))
        # A file that was left beside is in nobody's way.
        fs.left = -1
        small_file.replace(fs, "/f", (b"next",))
        assert fs.files == {"/f": b"next"}
    assert found == {b"old", b"new"}


def test_an_error_is_told_when_the_step_was_not_done_and_only_then():
    told = set()
    for late in (False, True):
        for error in ERRORS:
            for at in range(2):
                fs = StumblingFs()
                small_file.replace(fs, "/f", (b"old",))
                fs.at, fs.late, fs.error = at, late, error
                raised = error_of(small_file.replace, fs, "/f", (b"new",))
                assert raised in (None, error)
                assert content(fs, "/f") == (b"old" if raised else b"new")
                told.add(raised is None)
            fs = StumblingFs()
            small_file.replace(fs, "/f", (b"old",))
            fs.at, fs.late, fs.error = 0, late, error
            raised = error_of(small_file.drop, fs, "/f")
            assert (content(fs, "/f") is None) == (raised is None) == late
    assert told == {True, False}


def test_what_cannot_be_read_is_there():
    fs = BrokenFs()
    assert not small_file.is_there(fs, "/f")
    assert small_file.drop(fs, "/f") is None, "it is not there, as it should be"
    fs.broken = ("/f",)
    assert small_file.is_there(fs, "/f") and content(fs, "/f") == "unreadable"
    fs.left = 0
    assert isinstance(error_of(small_file.drop, fs, "/f"), OSError)


def test_the_files_of_boards_in_the_field_are_read_and_written_as_before():
    fs = RamFs()
    for path, data, load, save, value in (
        (
            "/conn",
            b'{"failures": 0}\x0e\xbf\x833',
            lambda: StateFile("/conn", fs).load(),
            lambda value: StateFile("/conn", fs).save(value),
            b'{"failures": 0}',
        ),
        (
            "/rpc_t",
            b"TAr1\x02\x00\x03\x00one\x00\x00\xb2\xb9g\xdd",
            lambda: RecordFile(fs, "/rpc_t").load(),
            lambda value: RecordFile(fs, "/rpc_t").save(value),
            [b"one", b""],
        ),
    ):
        fs.files[path] = bytearray(data)
        assert load() == value
        save(value)
        assert fs.files[path] == data
    file = RecordFile(fs, "/rpc_t")
    file.load()
    assert file.state == GOOD and fs.files["/rpc_t.copy"] == fs.files["/rpc_t"]


def test_a_trial_begins_and_ends_though_flash_told_an_error():
    """Each of its renames in turn, and its removal, is done and says that it failed."""
    for at in range(5):
        fs = StumblingFs()
        fs.files["/config.json"] = bytearray(b"old")
        fs.late, fs.at = True, at
        trial = ConfigTrial("/config.json", fs)
        if at == 0:  # nothing but what lies beside was begun
            assert isinstance(error_of(trial.apply, "new"), OSError)
            assert not trial.pending and trial.begin() == ""
            assert fs.files["/config.json"] == b"old"
            continue
        trial.apply("new")
        assert trial.pending and trial.begin() == "trial" and trial.on
        assert trial.confirm() and not trial.on
        assert fs.at < 0 and fs.files["/config.json"] == b"new"


def test_the_configuration_before_returns_though_flash_told_an_error():
    for at in range(2):
        fs = StumblingFs()
        fs.files["/config.json"] = bytearray(b"old")
        trial = ConfigTrial("/config.json", fs)
        trial.apply("new")
        if at:
            # As a cut between the two renames of apply() leaves it.
            fs.files["/config.new"] = fs.files.pop("/config.json")
        else:
            assert trial.begin() == "trial"
        fs.late, fs.at = True, 0
        assert trial.begin() == "restored"
        assert fs.files["/config.json"] == b"old" and not trial.on and not trial.pending
