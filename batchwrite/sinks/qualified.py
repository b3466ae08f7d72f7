"""Comparisons and functions for queries of our own, which on PostgreSQL are named by their schema.

There an unqualified name may mean something that somebody else has made: see `batchwrite.sinks.postgresql.names`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler


class _Comparison(FunctionElement[bool]):
    """A column, and what it is compared with."""

    type = Boolean()
    inherit_cache = True
    sign: str


class _Equals(_Comparison):
    inherit_cache = True
    sign = "="


class _IsAbove(_Comparison):
    inherit_cache = True
    sign = ">"


class _IsBelow(_Comparison):
    inherit_cache = True
    sign = "<"


class _IsOneOf(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True


class _Aggregate(FunctionElement[Any]):
    inherit_cache = True
    word: str


class _Most(_Aggregate):
    inherit_cache = True
    word = "max"


class _Total(_Aggregate):
    inherit_cache = True
    word = "sum"


def equals(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """Whether a column has a value, or that of another column."""
    return _Equals(column, _as_element(column, value))


def is_above(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """Whether a column is greater than a value."""
    return _IsAbove(column, _as_element(column, value))


def is_below(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """Whether a column is less than a value."""
    return _IsBelow(column, _as_element(column, value))


def is_one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether a column has one of some values, of which there is at least one."""
    return _IsOneOf(column, *[_as_element(column, value) for value in values])


def most(column: ColumnElement[Any]) -> FunctionElement[Any]:
    """The greatest of a column's values."""
    return _aggregate(_Most, column)


def total(column: ColumnElement[Any]) -> FunctionElement[Any]:
    """The sum of a column's values."""
    return _aggregate(_Total, column)


def _aggregate(kind: type[_Aggregate], column: ColumnElement[Any]) -> _Aggregate:
    made = kind(column)
    made.type = column.type
    return made


def _as_element(column: ColumnElement[Any], value: Any) -> Any:
    return value if hasattr(value, "compile") else bindparam(None, value, type_=column.type, unique=True)


@compiles(_Comparison)
def _write_comparison(element: _Comparison, compiler: SQLCompiler, **options: Any) -> str:
    left, right = (compiler.process(each, **options) for each in element.clauses)
    return f"{left} {element.sign} {right}"


@compiles(_Comparison, "postgresql")
def _write_comparison_qualified(element: _Comparison, compiler: SQLCompiler, **options: Any) -> str:
    left, right = (compiler.process(each, **options) for each in element.clauses)
    return f"({left} OPERATOR(pg_catalog.{element.sign}) {right})"


@compiles(_IsOneOf)
def _write_is_one_of(element: _IsOneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, *values = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN ({', '.join(values)})"


@compiles(_IsOneOf, "postgresql")
def _write_is_one_of_qualified(element: _IsOneOf, compiler: SQLCompiler, **options: Any) -> str:
    column, *values = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} OPERATOR(pg_catalog.=) ANY (ARRAY[{', '.join(values)}]))"


@compiles(_Aggregate)
def _write_aggregate(element: _Aggregate, compiler: SQLCompiler, **options: Any) -> str:
    return f"{element.word}({compiler.process(element.clauses, **options)})"


@compiles(_Aggregate, "postgresql")
def _write_aggregate_qualified(element: _Aggregate, compiler: SQLCompiler, **options: Any) -> str:
    return f"pg_catalog.{element.word}({compiler.process(element.clauses, **options)})"
