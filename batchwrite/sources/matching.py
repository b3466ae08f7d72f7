"""Which field of a record goes into which column, and as what: the map function of a load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from batchwrite.errors import ConfigurationError, ItemRefused
from batchwrite.sources.convert import Converter, ValueRefused, is_text, json_converter, text_converter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Table

    from batchwrite.sources.record import Record

_LISTED_NAMES = 30
_SHOWN_CHARACTERS = 60


class Collector(Protocol):
    """What a row is handed to."""

    def insert(self, table: Any, row: dict[str, Any], /) -> None:
        """Ask for a row to be inserted."""


class RecordMapper:
    """Makes one row of a table of each record; a field feeds the columns it is mapped to, else the one of its own name.

    Args:
        table: The table to load.
        mapping: Field by column, where the names differ.
        ignore: Fields that are left out on purpose.
        null: The text that stands for NULL in every column, or several of them. By default an empty text does, except
            in columns of text.
        json: Whether the values are those of a JSON document: then null stands for NULL, besides the texts of `null`
            if some are given, and a number only goes where numbers are kept.

    Raises:
        ConfigurationError: The mapping names a column which does not exist or which the database computes, or a
            field that is also ignored.
    """

    def __init__(
        self,
        table: Table,
        *,
        mapping: Mapping[str, str] | None = None,
        ignore: Collection[str] = (),
        null: str | Collection[str] | None = None,
        json: bool = False,
    ) -> None:
        self._table = table
        self._name = table.fullname
        self._mapping = dict(mapping or {})
        self._ignored = tuple(ignore)
        self._ignore = frozenset(ignore)
        self._nulls = (null,) if isinstance(null, str) else tuple(null or ())
        self._json = json
        self._columns = [column.name for column in table.columns if not _is_computed(column)]
        self._feeds: dict[str, list[tuple[str, Converter]]] = {}
        self._check_mapping()

    @property
    def named_fields(self) -> list[str]:
        """The fields that are mapped or ignored by name, in order."""
        return list(dict.fromkeys([*self._mapping.values(), *self._ignored]))

    def check_fields(self, fields: Iterable[str]) -> None:
        """Check that the fields of a header and the columns match.

        Raises:
            ConfigurationError: A field feeds no column, a column is fed twice, the mapping names a field that is not
                there, or no column is fed at all.
        """
        present = list(fields)
        if missing := [field for field in self._mapping.values() if field not in present]:
            raise ConfigurationError(f"no field {listed(missing)} in the header, which has {listed(present)}")
        if doubled := [field for field in present if field in self._mapping and not self._is_placed(field)]:
            raise ConfigurationError(
                f"column {listed(doubled)} would be fed twice, by a field mapped to it and by the field of its own "
                "name; map or ignore that field"
            )
        if stray := [field for field in present if not self._is_placed(field)]:
            raise ConfigurationError(
                f"no column for the field {listed(stray)} in table {self._name}, whose columns are "
                f"{listed(self._columns)}; map or ignore the field"
            )
        if not any(self._find_feeds(field) for field in present):
            raise ConfigurationError("every field is ignored: there is nothing to load")

    def __call__(self, record: Record, out: Collector) -> None:
        """Insert the record's row.

        Raises:
            ItemRefused: The record is damaged, has a field that feeds no column, or a value its column can't take.
        """
        if record.fields is None:
            raise ItemRefused(record.problem or "damaged", table=self._name)
        row: dict[str, Any] = {}
        feeds = self._feeds
        for field, value in record.fields.items():
            for column, convert in feeds[field] if field in feeds else self._find_feeds(field):
                try:
                    row[column] = convert(value)
                except ValueRefused as error:
                    raise ItemRefused(str(error), table=self._name, column=column) from error
        out.insert(self._table, row)

    def _check_mapping(self) -> None:
        if unknown := [column for column in self._mapping if column not in self._columns]:
            raise ConfigurationError(
                f"no column {listed(unknown)} in table {self._name}, whose columns are {listed(self._columns)}"
            )
        if both := [field for field in self._mapping.values() if field in self._ignore]:
            raise ConfigurationError(f"the field {listed(both)} is both mapped and ignored")

    def _is_placed(self, field: str) -> bool:
        return field in self._ignore or bool(self._columns_of(field))

    def _columns_of(self, field: str) -> list[str]:
        mapped = [column for column, source in self._mapping.items() if source == field]
        return mapped or [column for column in self._columns if column == field and column not in self._mapping]

    def _find_feeds(self, field: str) -> list[tuple[str, Converter]]:
        """The columns of a field, and how its values get there; remembered for the fields that have a place."""
        if not self._is_placed(field):
            raise ItemRefused(f"no column for the field {listed([field])}", table=self._name)
        columns = [] if field in self._ignore else self._columns_of(field)
        return self._feeds.setdefault(field, [(column, self._converter(column)) for column in columns])

    def _converter(self, column: str) -> Converter:
        column_type = self._table.columns[column].type
        if self._json:
            return _nullable(json_converter(column_type), (None, *self._nulls))
        if not self._nulls and is_text(column_type):
            return text_converter(column_type)
        return _nullable(text_converter(column_type), self._nulls or ("",))


def _nullable(convert: Converter, nulls: tuple[Any, ...]) -> Converter:
    def convert_or_null(value: Any) -> Any:
        return None if value in nulls else convert(value)

    return convert_or_null


def _is_computed(column: Any) -> bool:
    return column.computed is not None or bool(column.identity and column.identity.always)


def listed(names: Iterable[str]) -> str:
    """Names for a message of one line; a header may be anything, even a megabyte of it."""
    shown = [repr(name if len(name) <= _SHOWN_CHARACTERS else name[:_SHOWN_CHARACTERS] + "…") for name in names]
    more = len(shown) - _LISTED_NAMES
    return ", ".join(shown[:_LISTED_NAMES]) + (f" and {more} more" if more > 0 else "")
