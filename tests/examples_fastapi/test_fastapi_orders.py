"""The FastAPI example: a real uvicorn, real HTTP, and a real PostgreSQL."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from examples.fastapi_orders.checks import wrong_answers
from examples.fastapi_orders.clients import SKUS, Connection, load
from examples.fastapi_orders.coalesced import coalesced
from examples.fastapi_orders.models import NewOrder
from examples.fastapi_orders.service import Service
from examples.fastapi_orders.tables import metadata, products

pytestmark = pytest.mark.xdist_group("machine")

ROOT = Path(__file__).resolve().parents[2]
MODES = ["coalesced", "direct"]


def url_of(engine):
    return engine.url.render_as_string(hide_password=False)


def prepare(engine):
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(products.insert(), [{"sku": sku, "name": sku} for sku in SKUS])


@pytest.fixture(scope="module")
def database(module_database):
    engine = create_engine(module_database)
    prepare(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module", params=MODES)
def service(request, database):
    with Service(url_of(database), request.param) as running:
        running.mode = request.param
        yield running


@pytest.fixture
def prepared(postgres_engine):
    prepare(postgres_engine)
    return postgres_engine


def order(number, *lines, customer="Ada Lovelace"):
    keys = ("sku", "quantity", "unit_price")
    return {"number": number, "customer": customer, "lines": [dict(zip(keys, line, strict=True)) for line in lines]}


async def ask(service, method, path, body=None):
    connection = await Connection.opened(service.port)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        status, answer = await connection.request(method, path, data)
        return status, json.loads(answer)
    finally:
        connection.close()


def post(service, body):
    return asyncio.run(ask(service, "POST", "/orders", body))


def get(service, path):
    return asyncio.run(ask(service, "GET", path))


def test_an_order_is_written_and_read_back(service):
    number = f"read-{service.mode}"
    status, body = post(service, order(number, ("sku-002", 3, "0.10"), ("sku-001", 2, "19.99")))
    assert (status, body) == (201, {"number": number, "lines": 2})
    status, body = get(service, f"/orders/{number}")
    assert status == 200
    assert body.pop("taken_at")
    assert body == order(number, ("sku-001", 2, "19.99"), ("sku-002", 3, "0.10"))
    assert get(service, "/orders/nobody-has-sent-it")[0] == 404


def test_a_number_can_be_taken_once(service):
    number = f"once-{service.mode}"
    assert post(service, order(number, ("sku-001", 1, "1.00")))[0] == 201
    status, body = post(service, order(number, ("sku-002", 5, "2.00")))
    assert (status, body["table"], body["constraint"]) == (409, "orders", "order_number_only_once")
    assert get(service, f"/orders/{number}")[1]["lines"] == order("", ("sku-001", 1, "1.00"))["lines"]


@pytest.mark.parametrize(
    ("lines", "customer", "table", "constraint"),
    [
        ([("sku-001", 1, "1.00"), ("sku-secret", 1, "1.00")], "Ada", "order_lines", "product_known"),
        ([("sku-001", 1, "1.00"), ("sku-002", 0, "1.00")], "Ada", "order_lines", "quantity_positive"),
        ([("sku-001", 1, "1.00"), ("sku-001", 2, "1.00")], "Ada", "order_lines", "product_once_an_order"),
        ([("sku-001", 3_000_000_000, "1.00")], "Ada", None, None),
        ([("sku-001", 1, "1.00")], "secret" * 100, None, None),
        ([("sku-001", 1, "1.00")], "secret\0", None, None),
    ],
)
def test_an_order_at_fault_is_refused_with_the_reason_and_leaves_nothing(service, lines, customer, table, constraint):
    number = "at-fault"
    status, body = post(service, order(number, *lines, customer=customer))
    assert status == 422
    assert body["constraint"] == constraint
    if table:
        assert body["table"] == table
    assert body["message"]
    assert "secret" not in json.dumps(body)
    assert get(service, f"/orders/{number}")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b'{"number": "secret',
        order("secret"),
        order("secret", ("sku-001", 1, "1.005")),
        order("secret", ("sku-001", 1, "NaN")),
        order("secret", ("sku-001", "many", "1.00")),
        {"number": "secret"},
    ],
)
def test_what_is_no_order_is_refused_without_a_word_of_it(service, body):
    status, answer = post(service, body)
    assert status == 422
    assert answer["faults"]
    assert "secret" not in json.dumps(answer)
    assert "many" not in json.dumps(answer)


def test_where_the_tables_are_away_the_answer_is_503_and_afterwards_201(service, database):
    number = f"away-{service.mode}"
    with renamed(database, "orders", "elsewhere"):
        status, body = post(service, order(number, ("sku-001", 1, "1.00")))
        assert (status, list(body)) == (503, ["message"])
    assert post(service, order(number, ("sku-001", 1, "1.00")))[0] == 201


@contextmanager
def renamed(engine, name, to):
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {to}")
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {to} RENAME TO {name}")


def test_health_counts_answers(service):
    before = get(service, "/health")[1]
    post(service, order(f"counted-{service.mode}", ("sku-001", 1, "1.00")))
    after = get(service, "/health")[1]
    assert after["mode"] == service.mode
    assert after["answers"]["201"] == before["answers"].get("201", 0) + 1
    assert after["connections_in_use"] == 0
    if service.mode == "coalesced":
        assert after["orders_in_chunks"] == before["orders_in_chunks"] + 1


@pytest.mark.parametrize("mode", MODES)
def test_concurrent_clients_get_each_his_own_answer(mode, prepared):
    with Service(url_of(prepared), mode) as service:
        sent = asyncio.run(load(service.port, 30, time.monotonic() + 1.0, 0.3))
    assert {one.status for one in sent} == {201, 409, 422}
    assert not wrong_answers(prepared, sent)


def test_a_full_queue_is_answered_by_503_with_retry_after(prepared):
    async def scenario(service):
        holding = await asyncio.to_thread(prepared.connect)
        try:
            await asyncio.to_thread(holding.exec_driver_sql, "LOCK TABLE orders")
            tasks = [
                asyncio.create_task(whole_answer(service, order(f"full-{number}", ("sku-001", 1, "1.00"))))
                for number in range(12)
            ]
            # None can be written: who is answered now is one for whom there was no room.
            done, waiting = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            assert done
            assert waiting
            assert all(task.result().startswith("http/1.1 503") for task in done)
        finally:
            await asyncio.to_thread(holding.rollback)
            holding.close()
        return await asyncio.gather(*tasks)

    with Service(url_of(prepared), "coalesced", MAX_QUEUE="2") as service:
        answers = asyncio.run(scenario(service))
    refused = [answer for answer in answers if answer.startswith("http/1.1 503")]
    assert all("\r\nretry-after: 1\r\n" in answer and "queue is full" in answer for answer in refused)
    with prepared.connect() as connection:
        written = connection.scalar(text("SELECT count(*) FROM orders"))
    assert written == sum(answer.startswith("http/1.1 201") for answer in answers) == len(answers) - len(refused)


async def whole_answer(service, body):
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    data = json.dumps(body).encode()
    head = f"POST /orders HTTP/1.1\r\nContent-Length: {len(data)}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Host: orders\r\nConnection: close\r\n\r\n".encode() + data)
    answer = (await reader.read()).decode().lower()
    writer.close()
    return answer


def test_a_service_that_closes_answers_503(prepared):
    async def scenario():
        engine = create_async_engine(url_of(prepared))
        async with coalesced(engine, 0.005, 10) as orders:
            pass
        answer = await orders.write(NewOrder.model_validate(order("late", ("sku-001", 1, "1.00"))))
        await engine.dispose()
        return answer

    answer = asyncio.run(scenario())
    assert (answer.status, answer.headers) == (503, {"Retry-After": "1"})
    assert "closed" in answer.body["message"]


def test_at_sigterm_what_was_taken_is_answered_and_what_was_said_is_true(prepared):
    ended = []

    def terminate(service):
        time.sleep(1.0)  # in the middle of the load
        ended.append(time.monotonic())
        service.terminate()

    with Service(url_of(prepared), "coalesced") as service:
        thread = threading.Thread(target=terminate, args=(service,))
        thread.start()
        sent = asyncio.run(load(service.port, 50, time.monotonic() + 20, 0.05))
        thread.join()
        assert service.wait() == -signal.SIGTERM

    answered = [one for one in sent if one.status is not None]
    without = [one for one in sent if one.status is None]
    on_their_way = [one for one in answered if one.began < ended[0] < one.began + one.seconds]
    assert on_their_way, "no request was on its way at the signal"
    assert {one.status for one in answered} <= {201, 409, 422}
    # Each client has lost at most the request for which his connection was closed. A good order that the service had
    # read would be in the tables: the database was there all the time.
    assert len(without) <= 50
    assert set(wrong_answers(prepared, sent)) <= {"no answer"}
    with prepared.connect() as connection:
        numbers = set(connection.scalars(text("SELECT number FROM orders")))
    assert numbers == {one.number for one in answered if one.status == 201}

    with Service(url_of(prepared), "coalesced") as again:
        assert post(again, order("after-the-restart", ("sku-001", 1, "1.00")))[0] == 201
        assert get(again, f"/orders/{answered[0].number}")[0] == 200


def test_the_load_script_finds_no_wrong_answer(postgres_engine, tmp_path):
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "examples.fastapi_orders.load", url_of(postgres_engine), "--json", str(file)]
    options = ["--clients", "20", "--seconds", "2", "--bad", "0.1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [*command, *options], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "wrong answers" in ended.stdout
    (figures,) = json.loads(file.read_text(encoding="utf-8"))
    for mode in MODES:
        assert figures[mode]["requests"] > 20
        assert figures[mode]["wrong"] == {}
    assert figures["direct"]["requests a commit"] < 2 < figures["coalesced"]["requests a commit"]
    with postgres_engine.connect() as connection:
        left = connection.scalar(text("SELECT count(*) FROM pg_namespace WHERE nspname = 'fastapi_orders_load'"))
    assert left == 0
