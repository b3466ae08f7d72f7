"""Tables and writes for tests of plans."""

from dataclasses import replace

from batchwrite.table import Dependence, ForeignKeyInfo, TableInfo
from batchwrite.write import Kind, Write


class Expression:
    """Stands for an SQL expression that reads rows."""


def info(name, *columns, parent=None, **facts) -> TableInfo:
    foreign_keys = ()
    if parent is not None:
        foreign_keys = (ForeignKeyInfo(columns=("p",), parent=parent.handle, parent_columns=("id",)),)
        facts = {"referring": frozenset({"p"}), "depth": parent.depth + 1, **facts}
    given = {
        "primary_key": ("id",),
        "unique_keys": (frozenset({"id"}),),
        "unique_columns": frozenset({"id"}),
        "not_null": frozenset({"id"}),
        "foreign_keys": foreign_keys,
        "family": "family",
        "is_expression": lambda value: isinstance(value, Expression),
        "dependence_of": lambda value: Dependence.ROWS if isinstance(value, Expression) else Dependence.NOTHING,
    }
    names = ("id", "n", "v", "u", "p", *columns)
    return TableInfo(name=name, handle=name, columns=names, **{"exact": dict.fromkeys(names, int), **given, **facts})


PARENT = info("zeta", referenced=frozenset({"id"}))
CHILD = info("alpha", parent=PARENT)
OTHER = info("other", family="other")
SELF = replace(
    info("tree", referring=frozenset({"p"})),
    foreign_keys=(ForeignKeyInfo(columns=("p",), parent="tree", parent_columns=("id",)),),
)


def insert(table, **row):
    return Write(Kind.INSERT, table, row)


def upsert(table, key, *, set_columns=None, **row):
    names = tuple(row) if set_columns is None else set_columns
    return Write(Kind.UPSERT, table, {"id": key, **row}, ("id",), (key,), names)


def update(table, key, **values):
    return Write(Kind.UPDATE, table, values, ("id",), (key,))


def increment(table, key, **deltas):
    return Write(Kind.INCREMENT, table, deltas, ("id",), (key,))


def delete(table, key, *, missing_ok=False):
    return Write(Kind.DELETE, table, {}, ("id",), (key,), missing_ok=missing_ok)
