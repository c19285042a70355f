"""One of each kind that pinner.py can pin, for probe.py."""

TEXTS = ("a text that stays", b"bytes that stay")


def function():
    return 1


def generator():
    yield 2


def closure():
    kept = 3

    def inner():
        def innermost():
            return kept

        return innermost

    return inner


class Methods:
    def plain(self):
        return 4

    @staticmethod
    def static():
        return 5

    @classmethod
    def of_class(cls):
        return 6

    @property
    def attribute(self):
        return 7


def work() -> bool:
    """Whether each gives what it should."""
    methods = Methods()
    given = (
        function(),
        next(generator()),
        closure()()(),
        methods.plain(),
        methods.static(),
        methods.of_class(),
        methods.attribute,
    )
    return given == (1, 2, 3, 4, 5, 6, 7) and TEXTS[0][2:6] == "text" and TEXTS[1][:5] == b"bytes"
