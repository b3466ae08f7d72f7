"""The types of columns that the fuzzer makes tables of: by database, with values that suit, and some that nearly do."""

from dataclasses import dataclass

from odd_values import ODD

SQLITE, POSTGRESQL, MARIADB = "sqlite", "postgresql", "mariadb"
EVERY = (SQLITE, POSTGRESQL, MARIADB)
PG, MY, LITE = (POSTGRESQL,), (MARIADB,), (SQLITE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A column's type.

    Attributes:
        source: The type, as Python; `{name}` stands for a name that no other type has.
        good: Values that the column takes.
        near: Values of the right sort that it does not take, or takes in its own way.
        databases: Where there is such a type.
        deltas: What may be added to the column; nothing where nothing may.
        keyed: Whether rows may be known by it.
        exotic: Whether the server alone knows what suits, and says so by codes of its own.
    """

    source: str
    good: tuple[str, ...]
    near: tuple[str, ...] = ()
    databases: tuple[str, ...] = EVERY
    deltas: tuple[str, ...] = ()
    keyed: bool = False
    exotic: bool = False

    def odd(self) -> tuple[str, ...]:
        """Values of every sort; but PyMySQL makes so many bytes of a number for a column of bytes."""
        if "Binary" in self.source or "BINARY" in self.source:
            return tuple(source for source in ODD if "**" not in source)
        return ODD


_TEXTS = ("'a'", "'b'", "'Ab'", "''", "'x y'")
_DATES = ("date(2024, 1, 1)", "date(2024, 2, 29)", "date(1999, 12, 31)")
_MOMENTS = ("datetime(2024, 1, 1)", "datetime(2024, 2, 29, 12, 30, 1)", "datetime(1999, 12, 31, 23, 59, 59)")
_WHOLE = ("1", "2", "-3")

INTEGER = Kind(source="Integer", good=("1", "2", "3", "4"), near=("2**31", "1.5", "'5'"), deltas=_WHOLE, keyed=True)
BIG = Kind(source="BigInteger", good=("1", "2", "3", "2**40"), near=("2**63", "'6'"), deltas=_WHOLE, keyed=True)
SHORT_TEXT = Kind(source="String(5)", good=_TEXTS, near=("'too long, zq9'", "5", "'a\\x00'"), keyed=True)

KINDS = (
    INTEGER,
    BIG,
    SHORT_TEXT,
    Kind(source="SmallInteger", good=("1", "2", "3"), near=("2**15", "-2**15 - 1"), deltas=_WHOLE),
    Kind(
        source="Numeric(10, 2)",
        good=("Decimal('1.25')", "Decimal('2')", "3"),
        near=("Decimal('1E+12')", "1.5", "Decimal('0.125')"),
        deltas=("Decimal('0.25')", "1"),
        keyed=True,
    ),
    Kind(source="Numeric(30, 10)", good=("Decimal('1.0000000001')", "Decimal(12)"), deltas=("Decimal('0.5')", "1")),
    Kind(source="Double", good=("0.5", "0.1", "3", "-1e300"), near=("'x'", "10**400"), deltas=("0.5", "1", "2.0")),
    Kind(source="Float", good=("0.1", "0.25"), near=("1e39", "0.3"), databases=(SQLITE, POSTGRESQL)),
    Kind(source="REAL", good=("0.1", "0.25"), near=("1e39", "0.3"), databases=(SQLITE, POSTGRESQL)),
    Kind(source="Boolean", good=("True", "False"), near=("2", "'true'")),
    Kind(source="String(40)", good=_TEXTS, near=("'zq9' * 20", "'NULL'", "'a\\x00'", "'\\ud800'"), keyed=True),
    Kind(source="Text", good=_TEXTS, near=("'NULL'", "'a\\x00'", "'\\ud800'", "5")),
    Kind(source="LargeBinary", good=("b'a'", "b'\\x00\\xff'", "b''"), near=("'a'", "bytearray(b'x')", "7")),
    Kind(source="Date", good=_DATES, near=("datetime(2024, 1, 1, 5)", "'2024-01-01'", "'2024-13-01'"), keyed=True),
    Kind(
        source="DateTime",
        good=_MOMENTS,
        near=("pd.Timestamp('2024-01-02 03:04:05.1234567')", "'x'", "date(2024, 1, 2)"),
    ),
    Kind(source="Time", good=("time(1, 2, 3)", "time(0)"), near=("'25:00'", "timedelta(hours=1)")),
    Kind(
        source="Interval",
        good=("timedelta(days=3, seconds=5)", "-timedelta(seconds=1)", "timedelta(0)"),
        near=("5", "timedelta.max", "'1 day'"),
        databases=(SQLITE, POSTGRESQL),
    ),
    Kind(source="Uuid", good=("uuid.UUID(int=1)", "uuid.UUID(int=2)"), near=("str(uuid.UUID(int=3))", "5"), keyed=True),
    Kind(source="Uuid(as_uuid=False)", good=("str(uuid.UUID(int=1))",), near=("str(uuid.UUID(int=10)).upper()", "'x'")),
    Kind(source="Enum('red', 'green', name='{name}')", good=("'red'", "'green'"), near=("'blue, zq9'", "''", "5")),
    Kind(source="Enum(Colour, name='{name}')", good=("Colour.RED", "'GREEN'"), near=("'red'", "Size.LARGE")),
    Kind(source="JSON", good=("{'a': [1, None]}", "[]", "'t'", "1", "True"), near=("{1}", "object()", "float('nan')")),
    Kind(source="Choosy", good=("1", "2", "3"), near=("13", "'x'", "2**31"), keyed=True),
    Kind(source="Doubled", good=("1", "2", "3"), near=("-1", "1.9", "'x'", "2**31"), keyed=True),
    Kind(source="PickleType", good=("[1]", "'a'", "{'a': 1}"), near=("np.array([1, 2])", "lambda: 1", "pd.NA")),
    # PostgreSQL's own
    Kind(
        source="DateTime(timezone=True)",
        good=("datetime(2024, 1, 1, tzinfo=UTC)", "datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5)))"),
        near=("datetime(2024, 1, 1)", "'2024-01-01'", "pd.Timestamp('2024-01-02', tz='UTC')"),
        databases=PG,
    ),
    Kind(source="postgresql.JSONB", good=("{'a': 1}", "[]", "'\\x01'"), near=("'a\\x00'", "'\\ud800'"), databases=PG),
    Kind(
        source="ARRAY(Integer)",
        good=("[1, 2]", "[]", "[None]"),
        near=("[[1]]", "['x']", "np.array([1, 2])"),
        databases=PG,
    ),
    Kind(source="ARRAY(String(3))", good=("['a']", "['{', '\"', 'NULL']", "[None]"), near=("['long']",), databases=PG),
    Kind(source="postgresql.INET", good=("'127.0.0.1'", "'::1'"), near=("'zq9'", "'1.2.3'"), databases=PG),
    Kind(source="postgresql.MACADDR", good=("'08:00:2b:01:02:03'",), near=("'zq9'",), databases=PG),
    Kind(source="postgresql.BIT(3)", good=("'101'",), near=("'1'", "'10101'", "'zq9'"), databases=PG),
    Kind(source="postgresql.MONEY", good=("'1.50'",), near=("'zq9'", "1"), databases=PG),
    Kind(source="postgresql.OID", good=("1", "2"), near=("-1", "'zq9'"), databases=PG),
    Kind(source="postgresql.INT4RANGE", good=("'[1,3)'", "'empty'"), near=("'[3,1)'", "'zq9'"), databases=PG),
    Kind(
        source="postgresql.DOMAIN('{name}', Integer, check='VALUE < 5')",
        good=("1", "2"),
        near=("5", "'x'"),
        databases=PG,
    ),
    Kind(
        source="postgresql.DOMAIN('{name}', String(4), not_null=True, check='10 / length(VALUE) > 0')",
        good=("'a'", "'bb'"),
        near=("''", "None", "'zq9zq9'"),
        databases=PG,
    ),
    Kind(
        source="postgresql.TSVECTOR", good=("'a b'", "'a:1'"), near=('"zq9:\'"', "'a:b:c'"), databases=PG, exotic=True
    ),
    Kind(source="postgresql.TSQUERY", good=("'a & b'", "'a'"), near=("'zq9 &'", "'&'"), databases=PG, exotic=True),
    Kind(source="postgresql.JSONPATH", good=("'$.a'", "'$'"), near=("'zq9 $ ['", "'$['"), databases=PG, exotic=True),
    Kind(
        source="postgresql.REGCLASS",
        good=("'pg_class'",),
        near=("'zq9'", "'a.b.c.d'", "'1 2'"),
        databases=PG,
        exotic=True,
    ),
    Kind(source="postgresql.REGCONFIG", good=("'simple'",), near=("'zq9'", "'a.b.c.d'"), databases=PG, exotic=True),
    Kind(source="LTree", good=("'a.b'", "'top'"), near=("'zq9..x'", "'a b'"), databases=PG, exotic=True),
    Kind(source="postgresql.HSTORE", good=("{'a': '1'}", "{}"), near=("{'a': 1}", "'zq9'"), databases=PG, exotic=True),
    Kind(source="postgresql.CITEXT", good=("'a'", "'b'"), near=("'A'", "'B'"), databases=PG, keyed=True),
    # MariaDB's own
    Kind(
        source="mysql.TINYINT(unsigned=True)",
        good=("1", "2"),
        near=("-1", "256", "1.5"),
        databases=MY,
        deltas=("1", "2"),
    ),
    Kind(source="mysql.MEDIUMINT", good=("1", "2"), near=("2**23",), databases=MY, deltas=_WHOLE),
    Kind(source="mysql.YEAR", good=("2024",), near=("1", "'zq9'", "3000"), databases=MY),
    Kind(source="mysql.BIT(8)", good=("b'\\x01'",), near=("300", "'zq9'"), databases=MY),
    Kind(source="mysql.SET('a', 'b')", good=("{'a'}", "'a'"), near=("'zq9'", "{'z'}"), databases=MY),
    Kind(
        source="mysql.DATETIME(fsp=6)",
        good=_MOMENTS,
        near=("datetime(2024, 1, 1, 1, 1, 1, 123456)", "'x'"),
        databases=MY,
    ),
    Kind(source="mysql.FLOAT", good=("0.5", "0.25"), near=("1e39",), databases=MY),
    Kind(source="VARBINARY(5)", good=("b'a'",), near=("b'too long'", "'a'"), databases=MY),
    Kind(source="CHAR(5)", good=("'a'", "'b '"), near=("'too long'", "'A'"), databases=(POSTGRESQL, MARIADB)),
)

_WIDER = {"Integer": "bigint", "SmallInteger": "integer", "String(5)": "varchar(60)", "String(40)": "varchar(90)"}
_WIDER_FLOAT = dict.fromkeys(("REAL", "Float"), "double precision")
WIDER = {POSTGRESQL: {**_WIDER, **_WIDER_FLOAT}, MARIADB: {**_WIDER, "mysql.FLOAT": "double"}, SQLITE: {}}
"""What the types of columns may be altered to, which takes all that they took; by their sources."""

SETTINGS = {
    SQLITE: (
        "PRAGMA recursive_triggers = ON",
        "PRAGMA ignore_check_constraints = ON",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA reverse_unordered_selects = ON",
        "PRAGMA encoding = 'UTF-16'",
    ),
    POSTGRESQL: (
        *["SET array_nulls = off"] * 4,  # what it harms are NULLs, of which there are not many
        "SET \"IntervalStyle\" = 'sql_standard'",
        "SET \"IntervalStyle\" = 'iso_8601'",
        "SET \"DateStyle\" = 'German, DMY'",
        "SET \"DateStyle\" = 'SQL, MDY'",
        "SET bytea_output = 'escape'",
        "SET extra_float_digits = -15",
        "SET standard_conforming_strings = off",
        "SET timezone = 'America/New_York'",
        "SET timezone = 'Asia/Kolkata'",
        "SET default_transaction_isolation = 'repeatable read'",
        "SET search_path = pg_catalog, public",
        "SET client_encoding = 'LATIN1'",
        "SET backslash_quote = on",
    ),
    MARIADB: (
        *(
            f"SET SESSION sql_mode = 'STRICT_TRANS_TABLES,{words}'"
            for words in (
                "ANSI_QUOTES",
                "NO_BACKSLASH_ESCAPES",
                "NO_ZERO_DATE,NO_ZERO_IN_DATE",
                "PIPES_AS_CONCAT",
                "NO_AUTO_VALUE_ON_ZERO",
                "ERROR_FOR_DIVISION_BY_ZERO",
                "TRADITIONAL",
                "PAD_CHAR_TO_FULL_LENGTH",
                "TIME_ROUND_FRACTIONAL",
                "IGNORE_SPACE",
                "EMPTY_STRING_IS_NULL",
                "SIMULTANEOUS_ASSIGNMENT",
                "HIGH_NOT_PRECEDENCE",
                "NO_UNSIGNED_SUBTRACTION",
            )
        ),
        "SET SESSION time_zone = '+05:30'",
        "SET SESSION tx_isolation = 'SERIALIZABLE'",
        "SET SESSION innodb_lock_wait_timeout = 3",
        "SET SESSION collation_connection = 'utf8mb4_bin'",
        "SET SESSION sql_auto_is_null = 1",
        "SET SESSION unique_checks = 0",
    ),
}
"""What a session may be set to, by database; drawn one or two at a time."""
