"""SQLAlchemy tables and mapped classes, as the pure parts see them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import sqlalchemy
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.orm import MANYTOONE
from sqlalchemy.schema import ColumnCollectionConstraint, ForeignKeyConstraint, Table
from sqlalchemy.types import TypeDecorator, UserDefinedType

from batchwrite.errors import ItemRefused
from batchwrite.sinks.expressions import dependence_of, has_dependent_default, is_expression
from batchwrite.table import ForeignKeyInfo, TableInfo, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Constraint
    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty

    ConstraintName = Callable[[Constraint], str | None]

_log = logging.getLogger("batchwrite")

# Events of a mapped class around the INSERT of an instance.
_EVENTS = ("before_insert", "after_insert")

# The classes of which it has been looked whether they have such events: by any writer, as there may be one a request.
_noted: WeakSet[Mapper[Any]] = WeakSet()

_NOT_ADDABLE = (
    sqlalchemy.String,
    sqlalchemy.Boolean,
    sqlalchemy.LargeBinary,
    sqlalchemy.JSON,
    sqlalchemy.Uuid,
    sqlalchemy.ARRAY,
)

_NUMBERS = (sqlalchemy.Integer, sqlalchemy.Numeric, sqlalchemy.Float)

_COMPACT = (
    sqlalchemy.Integer,
    sqlalchemy.Numeric,
    sqlalchemy.Float,
    sqlalchemy.Boolean,
    sqlalchemy.Date,
    sqlalchemy.DateTime,
    sqlalchemy.Time,
    sqlalchemy.Interval,
    sqlalchemy.Uuid,
    sqlalchemy.Enum,
)


class SqlCatalog:
    """Describes tables to the collector; each table once.

    Args:
        text_is_exact: Whether the database compares texts as Python does.
        folds_texts: Whether it compares them by its own collations alone, so that `folding` tells keys apart.
        keeps_sqlite_order: Whether it is SQLite, so that `sqlite_on_conflict` has a meaning.
        constraint_name: Gives the name that its errors have for a constraint.
    """

    def __init__(
        self, *, text_is_exact: bool, folds_texts: bool, keeps_sqlite_order: bool, constraint_name: ConstraintName
    ) -> None:
        self._text_is_exact = text_is_exact
        self._folds_texts = folds_texts
        self._keeps_sqlite_order = keeps_sqlite_order
        self._constraint_name = constraint_name
        self._tables: dict[Table, TableInfo] = {}

    def describe(self, table: Any) -> Target:
        """The target for a `Table` or a mapped class.

        Raises:
            ItemRefused: It is neither, or a mapped class of several tables.
        """
        if isinstance(table, Table):
            info = self._info(table)
            return Target(table=info, names={column: column for column in info.columns})
        mapper = _mapper_of(table)
        if mapper is None or not isinstance(table, type):
            raise ItemRefused(f"a {type(table).__name__} is neither a sqlalchemy.Table nor a mapped class")
        if len(mapper.tables) != 1 or not isinstance(mapper.local_table, Table):
            raise ItemRefused(
                f"the class {table.__name__} is mapped to several tables: name one of them, or add() an instance"
            )
        info = self._info(mapper.local_table)
        names = {column: column for column in info.columns}
        names |= {attribute: column.key for attribute, column in _attributes(mapper, mapper.local_table)}
        return Target(table=info, names=names)

    def rows_of(self, instance: Any) -> Sequence[tuple[Target, dict[str, Any]]]:
        """The rows, by column, that an instance of a mapped class stands for: one a table, parents first.

        Raises:
            ItemRefused: It is no instance of a mapped class, or it holds related objects whose keys its own columns
                do not hold.
        """
        mapper = None if isinstance(instance, type) else _mapper_of(type(instance))
        if mapper is None:
            raise ItemRefused(f"a {type(instance).__name__} is no instance of a mapped class")
        self._note_events(mapper)
        state: InstanceState[Any] = sqlalchemy.inspect(instance)
        _refuse_lost_relations(mapper, state)
        rows = []
        tables = [table for table in mapper.tables if isinstance(table, Table)]
        for table in sorted(tables, key=lambda table: self._info(table).order):
            info = self._info(table)
            values = _column_values(mapper, state, table)
            if len(tables) > 1:
                missing = [column for column in info.primary_key if column not in values]
                if missing:
                    raise ItemRefused(
                        "an instance of several tables needs its primary key set", table=info.name, column=missing[0]
                    )
            rows.append((Target(table=info, names={column: column for column in info.columns}), values))
        return rows

    def _note_events(self, mapper: Mapper[Any]) -> None:
        """Say once a class that its events are not called."""
        if mapper not in _noted:
            _noted.add(mapper)
            events = [name for name in _EVENTS if getattr(mapper.dispatch, name)]
            if events:
                _log.warning(
                    "add() writes the columns of %s, and calls none of its events (%s): do in map what they do",
                    mapper.class_.__name__,
                    ", ".join(events),
                    extra={"action": "events", "class": mapper.class_.__name__},
                )

    def _info(self, table: Table) -> TableInfo:
        info = self._tables.get(table)
        if info is None:
            info = self._tables[table] = _table_info(
                table,
                text_is_exact=self._text_is_exact,
                folds_texts=self._folds_texts,
                keeps_sqlite_order=self._keeps_sqlite_order,
                constraint_name=self._constraint_name,
            )
        return info


def _mapper_of(mapped: Any) -> Mapper[Any] | None:
    inspected = sqlalchemy.inspect(mapped, raiseerr=False)
    return inspected if getattr(inspected, "is_mapper", False) else None


def _attributes(mapper: Mapper[Any], table: Table) -> Iterable[tuple[str, sqlalchemy.Column[Any]]]:
    """The attributes that map to columns of one table."""
    for attribute in mapper.column_attrs:
        for column in attribute.columns:
            if isinstance(column, sqlalchemy.Column) and column.table is table:
                yield attribute.key, column


def _column_values(mapper: Mapper[Any], state: InstanceState[Any], table: Table) -> dict[str, Any]:
    """What the ORM's own flush would insert: `None` gives way to a default, an attribute never set is left out.

    Raises:
        ItemRefused: The instance comes from a database, and an attribute of it is not loaded.
    """
    values = {}
    for attribute, column in _attributes(mapper, table):
        if attribute not in state.dict:
            if state.key is not None:
                raise ItemRefused("the instance has not loaded all of its columns", table=table.name, column=column.key)
            if column is not mapper.version_id_col or not mapper.version_id_generator:
                continue
            state.dict[attribute] = mapper.version_id_generator(None)
        value = state.dict[attribute]
        gives_way = column.default is not None or column.server_default is not None or column.primary_key
        if value is None and gives_way and not column.type.should_evaluate_none:
            continue
        values[column.key] = value
    return values


def _refuse_lost_relations(mapper: Mapper[Any], state: InstanceState[Any]) -> None:
    """Refuse related objects that writing columns would drop without a word."""
    for relationship in mapper.relationships:
        related = state.dict.get(relationship.key)
        if relationship.viewonly or not related:
            continue
        if relationship.direction is MANYTOONE and _has_key_of(related, mapper, state, relationship):
            continue
        raise ItemRefused(
            f"add() writes columns only, and the relationship {relationship.key} holds objects: "
            "add those by themselves, with their foreign keys set",
            table=str(mapper.local_table),
            column=relationship.key,
        )


def _has_key_of(
    related: Any, mapper: Mapper[Any], state: InstanceState[Any], relationship: RelationshipProperty[Any]
) -> bool:
    """Whether an instance's own columns hold the key of the object that it refers to."""
    other: InstanceState[Any] = sqlalchemy.inspect(related)
    pairs = [
        (
            state.dict.get(mapper.get_property_by_column(local).key),
            other.dict.get(other.mapper.get_property_by_column(remote).key),
        )
        for local, remote in relationship.local_remote_pairs or ()
    ]
    return all(own is not None and own == theirs for own, theirs in pairs)


def _table_info(
    table: Table,
    *,
    text_is_exact: bool,
    folds_texts: bool,
    keeps_sqlite_order: bool,
    constraint_name: ConstraintName,
) -> TableInfo:
    primary_key = tuple(column.key for column in table.primary_key)
    generated = {
        column.key
        for column in table.columns
        if column.default is not None or column.server_default is not None or column.identity or column.computed
    }
    if table.autoincrement_column is not None:
        generated.add(table.autoincrement_column.key)
    return TableInfo(
        name=table.fullname,
        handle=table,
        columns=tuple(column.key for column in table.columns),
        primary_key=primary_key,
        unique_keys=tuple(_unique_keys(table)),
        unique_columns=frozenset(_unique_columns(table)),
        constraints=_constraints(table, constraint_name),
        foreign_keys=tuple(_foreign_keys(table)),
        referring=frozenset(column.key for column in table.columns if column.foreign_keys),
        referenced=frozenset(_referenced_columns(table)),
        generated=frozenset(generated),
        not_null=frozenset(column.key for column in table.columns if not column.nullable),
        exact={c.key: c.type.python_type for c in table.columns if _is_exact(c.type, text_is_exact=text_is_exact)},
        foldable=frozenset(c.key for c in table.columns if folds_texts and isinstance(c.type, sqlalchemy.String)),
        touched=frozenset(c.key for c in table.columns if c.onupdate is not None),
        counting=frozenset(c.key for c in table.columns if dependence_of(getattr(c.onupdate, "arg", None))),
        dependent=frozenset(c.key for c in table.columns if has_dependent_default(c)),
        converting=frozenset(c.key for c in table.columns if _converts(c.type)),
        integers=frozenset(c.key for c in table.columns if isinstance(c.type, sqlalchemy.Integer)),
        numbers=frozenset(c.key for c in table.columns if isinstance(c.type, _NUMBERS)),
        texts=frozenset(
            c.key for c in table.columns if isinstance(c.type, (sqlalchemy.String, sqlalchemy.LargeBinary))
        ),
        compact=frozenset(c.key for c in table.columns if isinstance(c.type, _COMPACT)),
        not_addable=frozenset(c.key for c in table.columns if isinstance(c.type, _NOT_ADDABLE)),
        keeps_order=keeps_sqlite_order and _has_on_conflict(table),
        depth=_depth(table, {}),
        family=min(other.fullname for other in _family(table)),
        is_expression=is_expression,
        dependence_of=dependence_of,
    )


def _unique_keys(table: Table) -> Iterable[frozenset[str]]:
    """Sets of columns of which no two rows hold the same values."""
    for constraint in table.constraints:
        if (
            isinstance(constraint, (sqlalchemy.PrimaryKeyConstraint, sqlalchemy.UniqueConstraint))
            and constraint.columns
        ):
            yield frozenset(column.key for column in constraint.columns)
    for index in table.indexes:
        is_partial = any(value is not None for name, value in index.dialect_kwargs.items() if name.endswith("_where"))
        is_plain = all(isinstance(expression, sqlalchemy.Column) for expression in index.expressions)
        if index.unique and is_plain and not is_partial:
            yield frozenset(column.key for column in index.columns)


def _unique_columns(table: Table) -> Iterable[str]:
    """Columns whose values may keep another row out: those of anything unique, and of exclusion constraints."""
    for constraint in table.constraints:
        if isinstance(constraint, ColumnCollectionConstraint) and not isinstance(
            constraint, (ForeignKeyConstraint, sqlalchemy.CheckConstraint)
        ):
            yield from (column.key for column in constraint.columns)
    for index in table.indexes:
        if index.unique:
            yield from (column.key for column in index.columns)


def _constraints(table: Table, constraint_name: ConstraintName) -> dict[str, tuple[str, ...]]:
    """The columns of everything that has a name and may refuse a row."""
    named: dict[str, tuple[str, ...]] = {}
    for constraint in table.constraints:
        if not isinstance(constraint, ColumnCollectionConstraint) or not constraint.columns:
            continue
        name = constraint_name(constraint)
        if name is not None:
            named[name] = tuple(column.key for column in constraint.columns)
    for index in table.indexes:
        if index.unique and index.name:
            named[index.name] = tuple(column.key for column in index.columns)
    return named


def _has_on_conflict(table: Table) -> bool:
    """Whether a constraint says what SQLite does where a row collides: `REPLACE`, `IGNORE` and the like."""
    return any(
        name.startswith("sqlite_on_conflict") and value is not None
        for part in (*table.constraints, *table.columns)
        for name, value in part.dialect_kwargs.items()
    )


def _converts(kind: Any) -> bool:
    """Whether a type turns values into others by code of its user's, or as its user has told it to."""
    if isinstance(kind, (TypeDecorator, UserDefinedType)) or getattr(kind, "_variant_mapping", None):
        return True
    is_formatted = getattr(kind, "_storage_format", None) != getattr(type(kind), "_storage_format", None)
    return is_formatted or not type(kind).__module__.startswith("sqlalchemy.")


def _is_exact(kind: Any, *, text_is_exact: bool) -> bool:
    """Whether two values of a type's own class are the same in the database exactly where they are equal in Python.

    Numbers with a scale are rounded, CHAR is padded, a text may spell one UUID in several ways, a collation or a type
    of the user's own may do anything.
    """
    if _converts(kind) or isinstance(kind, sqlalchemy.Enum):
        return False
    if isinstance(kind, sqlalchemy.Uuid):
        return bool(kind.as_uuid)
    if isinstance(kind, (sqlalchemy.Integer, sqlalchemy.Date, sqlalchemy.Boolean)):
        return True
    is_plain_text = isinstance(kind, sqlalchemy.String) and kind.__visit_name__ not in {"CHAR", "NCHAR", "CITEXT"}
    return text_is_exact and is_plain_text and kind.collation is None


def _parents(table: Table) -> list[tuple[ForeignKeyConstraint, Table]]:
    """Foreign keys whose other side is known; one that points at a table nobody has defined is left to the database."""
    known = []
    for constraint in table.foreign_key_constraints:
        try:
            known.append((constraint, constraint.referred_table))
        except sqlalchemy_errors.NoReferenceError:
            continue
    return known


def _foreign_keys(table: Table) -> Iterable[ForeignKeyInfo]:
    for constraint, parent in sorted(_parents(table), key=lambda pair: [column.key for column in pair[0].columns]):
        yield ForeignKeyInfo(
            columns=tuple(element.parent.key for element in constraint.elements),
            parent=parent,
            parent_columns=tuple(element.column.key for element in constraint.elements),
        )


def _referenced_columns(table: Table) -> Iterable[str]:
    for other in table.metadata.tables.values():
        for constraint, parent in _parents(other):
            if parent is table:
                yield from (element.column.key for element in constraint.elements)


def _ancestors(table: Table) -> set[Table]:
    found: set[Table] = set()
    waiting = [table]
    while waiting:
        for _, parent in _parents(waiting.pop()):
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def _depth(table: Table, known: dict[Table, int]) -> int:
    """Length of the longest chain of parents; tables that refer to each other in a circle count as one."""
    if table not in known:
        circle = {table} | {other for other in _ancestors(table) if table in _ancestors(other)}
        parents = {parent for member in circle for _, parent in _parents(member)} - circle
        known[table] = 1 + max((_depth(parent, known) for parent in parents), default=-1)
    return known[table]


def _family(table: Table) -> set[Table]:
    """All tables that foreign keys connect with a table, in either direction, and the table itself."""
    links: dict[Table, set[Table]] = {}
    for other in {*table.metadata.tables.values(), table}:
        for _, parent in _parents(other):
            links.setdefault(other, set()).add(parent)
            links.setdefault(parent, set()).add(other)
    found = {table}
    waiting = [table]
    while waiting:
        fresh = links.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found
