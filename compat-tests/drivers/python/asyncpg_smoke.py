"""asyncpg (binary formats throughout) against a server: `python asyncpg_smoke.py postgresql://…`."""

import asyncio
import io
import json
import sys

import asyncpg

from smoke import TABLE, VALUES, Checks, equal, row

URL = sys.argv[1]


async def connect(**options):
    return await asyncpg.connect(URL, timeout=20, **options)


async def raises(kind, awaitable):
    """The error of this kind that has to come."""
    try:
        await awaitable
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


async def connecting():
    conn = await connect()
    equal(await conn.fetchval("SELECT 1"), 1)
    assert conn.get_server_version().major >= 15, conn.get_server_version()
    equal(conn.get_settings().client_encoding, "UTF8")
    if "sslmode=require" in URL:
        assert conn._transport.get_extra_info("ssl_object") is not None, "the connection isn't encrypted"
    await conn.close()


async def reset_and_pool():
    async with asyncpg.create_pool(URL, min_size=2, max_size=4) as pool:
        equal(await asyncio.gather(*(pool.fetchval("SELECT $1::int4", k) for k in range(20))), list(range(20)))


def type_checks():
    for kind, value in VALUES:

        async def check(kind=kind, value=value):
            conn = await connect()
            try:
                equal(await conn.fetchval(f"SELECT $1::{kind}", value), value)
            finally:
                await conn.close()

        yield f"{kind} {value!r:.30}", check

    async def jsonb():
        conn = await connect()
        await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        value = {"a": [1, 2.5, None, True, "ä"], "b": {"c": {}}}
        equal(await conn.fetchval("SELECT $1::jsonb", value), value)
        await conn.close()

    async def unknown_types():
        conn = await connect()
        # Types that asyncpg learns from the catalogs.
        equal(list(await conn.fetchval("SELECT ARRAY[ROW(1, 'a'::text)]")), [(1, "a")])
        equal(str(await conn.fetchval("SELECT 'pg_class'::regclass::text")), "pg_class")
        await conn.close()

    yield "jsonb", jsonb
    yield "types from the catalogs", unknown_types


async def tables():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_t")
    await conn.execute(TABLE.format(name="asyncpg_t"))
    marks = ", ".join(f"${n + 1}" for n in range(len(row(0))))
    await conn.executemany(f"INSERT INTO asyncpg_t VALUES ({marks})", [row(k) for k in range(20)])
    got = await conn.fetch("SELECT * FROM asyncpg_t ORDER BY id")
    equal([tuple(r) for r in got], [row(k) for k in range(20)])
    equal(await conn.execute("UPDATE asyncpg_t SET t = 'new' WHERE id < $1", 5), "UPDATE 5")
    statement = await conn.prepare("SELECT id, t FROM asyncpg_t WHERE id = ANY($1::int4[]) ORDER BY id")
    equal([a.type.name for a in statement.get_attributes()], ["int4", "text"])
    equal([r["id"] for r in await statement.fetch([3, 5, 99])], [3, 5])
    async with conn.transaction():
        ids = [r["id"] async for r in conn.cursor("SELECT id FROM asyncpg_t ORDER BY id", prefetch=7)]
    equal(ids, list(range(20)))
    await conn.close()


async def transactions():
    conn = await connect()
    await conn.execute("DROP TABLE IF EXISTS asyncpg_x; CREATE TABLE asyncpg_x (a int PRIMARY KEY)")
    async with conn.transaction():
        await conn.execute("INSERT INTO asyncpg_x VALUES (1)")

        async def nested():
            async with conn.transaction():
                await conn.execute("INSERT INTO asyncpg_x VALUES (2)")
                await conn.execute("INSERT INTO asyncpg_x VALUES (1)")

        await raises(asyncpg.UniqueViolationError, nested())
        async with conn.transaction():
            await conn.execute("INSERT INTO asyncpg_x VALUES (3)")
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("DELETE FROM asyncpg_x")
    await transaction.rollback()
    equal([r["a"] for r in await conn.fetch("SELECT a FROM asyncpg_x ORDER BY a")], [1, 3])

    async def write():
        async with conn.transaction(isolation="serializable", readonly=True):
            await conn.execute("INSERT INTO asyncpg_x VALUES (9)")

    await raises(asyncpg.ReadOnlySQLTransactionError, write())
    await conn.close()


async def copying():
    conn = await connect()
    rows = [row(k) for k in range(50)]
    await conn.execute("DROP TABLE IF EXISTS asyncpg_c")
    await conn.execute(TABLE.format(name="asyncpg_c"))
    equal(await conn.copy_records_to_table("asyncpg_c", records=rows), "COPY 50")
    equal([tuple(r) for r in await conn.fetch("SELECT * FROM asyncpg_c ORDER BY id")], rows)
    out = io.BytesIO()
    answer = await conn.copy_from_query(
        "SELECT id, t FROM asyncpg_c WHERE id < $1 ORDER BY id", 2, output=out, format="csv")
    equal(answer, "COPY 2")
    equal(out.getvalue().decode(), '0,"t0\n\tä\\"\n1,"t1\n\tä\\"\n')
    text, binary = io.BytesIO(), io.BytesIO()
    await conn.copy_from_table("asyncpg_c", output=text)
    await conn.copy_from_table("asyncpg_c", output=binary, format="binary")
    for source, form in ((text, "text"), (binary, "binary")):
        source.seek(0)
        await conn.execute("DELETE FROM asyncpg_c")
        await conn.copy_to_table("asyncpg_c", source=source, format=form)
        equal([tuple(r) for r in await conn.fetch("SELECT * FROM asyncpg_c ORDER BY id")], rows)
    await raises(asyncpg.UniqueViolationError, conn.copy_records_to_table("asyncpg_c", records=rows[:1]))
    await conn.close()


async def errors():
    conn = await connect()
    await conn.execute(
        "DROP TABLE IF EXISTS asyncpg_e;"
        "CREATE TABLE asyncpg_e (a int PRIMARY KEY, b int NOT NULL, CONSTRAINT small CHECK (b < 10));"
        "INSERT INTO asyncpg_e VALUES (1, 1)")
    error = await raises(asyncpg.UniqueViolationError, conn.execute("INSERT INTO asyncpg_e VALUES ($1, 2)", 1))
    equal((error.constraint_name, error.detail), ("asyncpg_e_pkey", "Key (a)=(1) already exists."))
    equal((error.schema_name, error.table_name), ("public", "asyncpg_e"))
    error = await raises(asyncpg.CheckViolationError, conn.execute("INSERT INTO asyncpg_e VALUES (2, 20)"))
    equal((error.constraint_name, error.detail), ("small", "Failing row contains (2, 20)."))
    error = await raises(asyncpg.NotNullViolationError, conn.execute("INSERT INTO asyncpg_e VALUES (3, NULL)"))
    equal(error.column_name, "b")
    error = await raises(asyncpg.UndefinedColumnError, conn.fetch("SELECT a, nonsense FROM asyncpg_e"))
    equal(error.position, "11")
    await raises(asyncpg.DivisionByZeroError, conn.fetch("SELECT 1 / $1::int4", 0))
    notices = []
    conn.add_log_listener(lambda _, message: notices.append(message.sqlstate))
    await conn.execute("DROP TABLE IF EXISTS asyncpg_none")
    await conn.fetchval("SELECT 1")
    await asyncio.sleep(0)
    equal(notices, ["00000"])
    await conn.close()


async def cancelling():
    conn = await connect()
    query = "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 100000) b"
    # asyncpg turns its own time limit into a cancel request.
    await raises(asyncio.TimeoutError, conn.fetch(query, timeout=0.3))
    equal(await conn.fetchval("SELECT 1"), 1)
    other = await connect()
    pid = conn.get_server_pid()
    running = asyncio.create_task(conn.fetch(query))
    await asyncio.sleep(0.3)
    assert await other.fetchval("SELECT pg_cancel_backend($1)", pid)
    await raises(asyncpg.QueryCanceledError, running)
    equal(await conn.fetchval("SELECT 1"), 1)
    await conn.close()
    await other.close()


async def several_statements():
    conn = await connect()
    error = await raises(asyncpg.PostgresError, conn.execute("SELECT 1; SELECT 1/0; SELECT 2"))
    equal(error.sqlstate, "22012")
    await conn.close()


async def run():
    checks = Checks("asyncpg")
    listed = [(f.__name__, f) for f in (connecting, reset_and_pool, tables, transactions, copying, errors,
                                        cancelling, several_statements)]
    for name, check in listed + list(type_checks()):
        try:
            await asyncio.wait_for(check(), 60)
        except Exception as error:  # every check is to be tried
            checks.failure(name, error)
    checks.finish()


asyncio.run(run())
