"""Reading an untrusted mapping field by field: typed values out, every problem gathered with its path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.errors import Violation


class Fields:
    """One mapping of the input and where it sits, such as `facts[3]`.

    Readers return a usable value also where they refuse one, so that reading goes on to the next field;
    the caller raises once, when `violations` is not empty.
    """

    def __init__(
        self,
        data: object,
        known: Sequence[str],
        path: str = "",
        violations: list[Violation] | None = None,
    ) -> None:
        self._path = path
        self.violations: list[Violation] = [] if violations is None else violations
        self._data: Mapping[str, object] = {}
        self._unreadable = False
        if not isinstance(data, Mapping):
            self.refuse("", f"must be a mapping of {', '.join(known)}")
            self._unreadable = True
            return
        self._data = data
        for key in data:
            if key not in known:
                self.refuse(str(key)[:64], f"is not a known field; known are {', '.join(known)}")

    def refuse(self, key: str, message: str) -> None:
        """Note that `key` of this mapping is wrong; an empty key means the mapping itself."""
        if self._unreadable:  # said once, for the mapping as a whole
            return
        field = ".".join(part for part in (self._path, key) if part)
        self.violations.append(Violation(field, message))

    def refused(self, key: str) -> bool:
        """Whether `key`, or anything inside it, was refused."""
        field = ".".join(part for part in (self._path, key) if part)
        return any(
            violation.field == field or violation.field.startswith((f"{field}.", f"{field}["))
            for violation in self.violations
        )

    def text(self, key: str, most_chars: int, *, required: bool = True) -> str:
        """The stripped text at `key`; "" where it is absent or refused."""
        return self._checked(key, self._data.get(key), most_chars, required)

    def texts(self, key: str, most: int, most_chars: int) -> tuple[str, ...]:
        """The list of non-empty texts at `key`; none where it is absent."""
        values = self._sequence(key, most, 0)
        return tuple(
            self._checked(f"{key}[{index}]", value, most_chars, required=True)
            for index, value in enumerate(values)
        )

    def items(self, key: str, most: int, known: Sequence[str], *, at_least: int = 0) -> list[Fields]:
        """The mappings in the list at `key`, each to be read in turn."""
        values = self._sequence(key, most, at_least)
        prefix = f"{self._path}." if self._path else ""
        return [
            Fields(value, known, f"{prefix}{key}[{index}]", self.violations)
            for index, value in enumerate(values)
        ]

    def _sequence(self, key: str, most: int, at_least: int) -> Sequence[object]:
        value = self._data.get(key)
        if value is None or value == "":
            value = []
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            self.refuse(key, "must be a list")
            return []
        if len(value) < at_least:
            self.refuse(key, f"is empty; at least {at_least} is needed")
        if len(value) > most:
            self.refuse(key, f"has {len(value):,} entries; at most {most:,} are allowed")
            return []
        return value

    def _checked(self, key: str, value: object, most_chars: int, required: bool) -> str:
        if value is None:
            value = ""
        if not isinstance(value, str):
            self.refuse(key, "must be text")
            return ""
        text = value.strip()
        if required and not text:
            self.refuse(key, "is empty")
        if len(text) > most_chars:
            self.refuse(key, f"has {len(text):,} characters; at most {most_chars:,} are allowed")
            return ""
        if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
            self.refuse(key, "holds a NUL character or half a surrogate pair")
            return ""
        return text
