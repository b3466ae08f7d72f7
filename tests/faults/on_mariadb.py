"""What the tests of MariaDB share."""

from sqlalchemy import select


def rows_of(engine, table):
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]


def run(engine, statement):
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
