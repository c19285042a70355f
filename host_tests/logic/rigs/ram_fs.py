"""Files in RAM, with the names of tapauth.small_file.Flash."""


class RamFile:
    def __init__(self, files, path, data):
        self.files = files
        self.path = path
        self.data = data
        self.at = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def read(self, count):
        data = bytes(self.data[self.at : self.at + count])
        self.at += len(data)
        return data

    def write(self, data):
        self.data.extend(data)
        return len(data)

    def close(self):
        pass


class RamFs:
    """Files by path. `failing` set makes every write raise OSError."""

    def __init__(self):
        self.files = {}
        self.failing = False
        self.writes = 0

    def open(self, path, mode):
        if mode == "wb":
            if self.failing:
                raise OSError(5)
            self.writes += 1
            self.files[path] = bytearray()
        elif path not in self.files:
            raise OSError(2)
        return RamFile(self.files, path, self.files[path])

    def rename(self, old, new):
        if old not in self.files:
            raise OSError(2)
        self.files[new] = self.files.pop(old)

    def remove(self, path):
        if path not in self.files:
            raise OSError(2)
        del self.files[path]


class BrokenFs(RamFs):
    """A file system that cannot read the files in `broken`, or on which folders have their names.

    After `left` steps that change it, its power is gone.
    """

    def __init__(self):
        super().__init__()
        self.broken = ()
        self.left = -1

    def _step(self):
        if self.left == 0:
            raise OSError(5)
        self.left -= 1

    def open(self, path, mode):
        if path in self.broken:
            raise OSError(21)
        if mode == "wb":
            self._step()
        return super().open(path, mode)

    def rename(self, old, new):
        self._step()
        super().rename(old, new)

    def remove(self, path):
        self._step()
        super().remove(path)


class StumblingFs(RamFs):
    """`error` is raised once, at the step that `at` counts down to; `late`: when it is done."""

    def __init__(self):
        super().__init__()
        self.at = -1
        self.late = False
        self.error = OSError(5)

    def _step(self, action, *arguments):
        self.at -= 1
        if self.at == -1 and not self.late:
            raise self.error
        result = action(*arguments)
        if self.at == -1:
            raise self.error
        return result

    def open(self, path, mode):
        if mode != "wb":
            return super().open(path, mode)
        return self._step(super().open, path, mode)

    def rename(self, old, new):
        self._step(super().rename, old, new)

    def remove(self, path):
        self._step(super().remove, path)
