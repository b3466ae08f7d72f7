"""Several processes that write to one SQLite file, or to one MariaDB: each item lands once, and no item is blamed."""

import pytest
from hot_keys import assert_right, prepare, written_by_processes
from sqlalchemy import create_engine, text

pytestmark = pytest.mark.xdist_group("machine")


@pytest.fixture
def file(sqlite_engine, request):
    """A file whose journal is of one kind, and which is waited for no longer than a moment."""
    url = sqlite_engine.url.update_query_dict({"timeout": "0.02"})
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text(f"PRAGMA journal_mode = {request.param}")) == request.param
    prepare(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("file", ["delete", "wal"], indirect=True)
def test_processes_that_write_to_one_file_wait_for_each_other(file, seed):
    """SQLITE_BUSY, which each of them gets again and again, is weather."""
    assert_right(file, written_by_processes(file, seed, 0))


def test_processes_that_write_to_one_mariadb_wait_for_each_other(mariadb_engine, seed):
    prepare(mariadb_engine)
    with mariadb_engine.connect() as connection:
        before = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").one()[1]
    told = written_by_processes(mariadb_engine, seed, 0)
    assert_right(mariadb_engine, told)
    with mariadb_engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").one()[1] == before
