"""What the pure parts need to know about a table. Pure: the sink fills it in, whatever the table really is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Dependence(IntEnum):
    """What the outcome of a value depends on, beside itself."""

    NOTHING = 0
    ROWS = 1
    """What tables hold at that moment: it must not be moved among what changes them."""
    SESSION = 2
    """Perhaps what the session did last: nothing before it may be moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKeyInfo:
    """One foreign key of a table.

    Attributes:
        columns: The referring columns.
        parent: `TableInfo.handle` of the table referred to.
        parent_columns: The columns referred to, in the same order.
    """

    columns: tuple[str, ...]
    parent: Any = field(repr=False)
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableInfo:
    """A table as collector and plan see it; one object a table and sink, compared by identity.

    Attributes:
        name: Its name, with the schema in front where it has one.
        handle: What the sink writes to, e.g. a `sqlalchemy.Table`.
        columns: The names of its columns, in order.
        primary_key: The columns of its primary key, possibly none.
        unique_keys: Every set of columns declared unique, the primary key included.
        unique_columns: Every column whose value may keep another row out, e.g. by a partial unique index.
        constraints: Columns of each named constraint, by the constraint's name.
        foreign_keys: Its foreign keys.
        referring: Its columns that belong to a foreign key.
        referenced: Its columns that foreign keys of other tables (or its own) point at.
        generated: Its columns that get a value where a row gives none.
        not_null: Its columns that cannot be NULL.
        exact: For its columns where there is one, the type of which values are the same in the database exactly where
            they are equal in Python; those of other types may be read, rounded or padded.
        converting: Its columns whose type turns values into others by code of its own.
        foldable: Its columns of texts that are compared by an unknown collation of the database's own (see `folding`).
        touched: Its columns that get a value of their own whenever a row changes.
        counting: Those of them whose value depends on the row, so that each change counts.
        integers: Its columns of whole numbers.
        numbers: Its columns of numbers, the whole ones included.
        texts: Its columns of texts or byte strings.
        compact: Its columns whose values take little memory, whatever they are: numbers, dates, truth values.
        not_addable: Its columns to which nothing can be added (texts, booleans, JSON, …).
        keeps_order: Whether the order in which its rows are written decides which of them stay: a row that collides
            with another replaces it, or gives way.
        depth: Length of the longest chain of parents above it: tables are written in this order.
        family: The same value for all tables that foreign keys connect, in either direction.
        order: Sort key of the one fixed order of tables: parents first, then by name, in every process.
        identity_columns: Its columns by which its own primary key, or other tables, know a row.
        dependent: Its columns that get a value which depends on rows, or on what the session did last, where a row
            gives none.
        is_expression: Whether a value is an SQL expression and not data.
        dependence_of: What the outcome of a value depends on.
    """

    name: str
    handle: Any = field(repr=False)
    columns: tuple[str, ...]
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[frozenset[str], ...] = ()
    unique_columns: frozenset[str] = frozenset()
    constraints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    foreign_keys: tuple[ForeignKeyInfo, ...] = ()
    referring: frozenset[str] = frozenset()
    referenced: frozenset[str] = frozenset()
    generated: frozenset[str] = frozenset()
    not_null: frozenset[str] = frozenset()
    exact: Mapping[str, type] = field(default_factory=dict)
    converting: frozenset[str] = frozenset()
    foldable: frozenset[str] = frozenset()
    touched: frozenset[str] = frozenset()
    counting: frozenset[str] = frozenset()
    integers: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    compact: frozenset[str] = frozenset()
    not_addable: frozenset[str] = frozenset()
    dependent: frozenset[str] = frozenset()
    keeps_order: bool = False
    depth: int = 0
    family: Any = field(default=None, repr=False)
    order: tuple[int, str] = field(init=False, repr=False)
    identity_columns: frozenset[str] = field(init=False, repr=False)
    is_expression: Callable[[Any], bool] = field(default=lambda _value: False, repr=False)
    dependence_of: Callable[[Any], Dependence] = field(default=lambda _value: Dependence.NOTHING, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (self.depth, self.name))
        object.__setattr__(self, "identity_columns", self.referenced.union(self.primary_key))

    @property
    def is_self_referencing(self) -> bool:
        """Whether a foreign key of the table points at the table itself."""
        return any(foreign_key.parent is self.handle for foreign_key in self.foreign_keys)

    def is_unique_key(self, columns: tuple[str, ...]) -> bool:
        """Whether at most one row can have given values in these columns, as far as is declared."""
        return any(unique.issubset(columns) for unique in self.unique_keys)

    def tells_apart(self, columns: Iterable[str], types: Iterable[type]) -> bool:
        """Whether values of such types in columns are the same in the database exactly where they are in Python."""
        return all(self.exact.get(column) is kind for column, kind in zip(columns, types, strict=True))

    def could_be_inserted(self, values: Mapping[str, Any]) -> bool:
        """Whether a row with these values has one for every column that needs one."""
        for column in self.not_null:
            if values.get(column) is None and (column in values or column not in self.generated):
                return False
        return True

    def columns_of(self, constraint: str) -> tuple[str, ...]:
        """The columns of a constraint, as far as is declared."""
        return self.constraints.get(constraint, ())

    def constraint_of(self, columns: frozenset[str]) -> str | None:
        """The name of the constraint over exactly these columns, if one has a name."""
        return next((name for name, own in self.constraints.items() if frozenset(own) == columns), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a map function may name as a table: a table, or a class mapped to one.

    Attributes:
        table: The table.
        names: Column by the name a row may use for it; an ORM attribute may be called otherwise than its column.
    """

    table: TableInfo
    names: Mapping[str, str]
