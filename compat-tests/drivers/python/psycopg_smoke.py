"""psycopg 3 against a server: `python psycopg_smoke.py postgresql://…`."""

import sys
import threading

import psycopg
from psycopg.types.json import Jsonb

from smoke import TABLE, VALUES, Checks, equal, row

URL = sys.argv[1]


def connect(**options):
    return psycopg.connect(URL, autocommit=True, connect_timeout=20, **options)


def connecting():
    with connect() as conn:
        equal(conn.execute("SELECT 1").fetchone(), (1,))
        assert conn.info.server_version >= 150000, conn.info.server_version
        equal(conn.info.encoding, "utf-8")
        assert conn.info.backend_pid != 0
        if "sslmode=require" in URL:
            assert conn.pgconn.ssl_in_use, "the connection isn't encrypted"
            assert conn.pgconn.used_password, "no password was asked for"


def wrong_password():
    if "sslmode=require" not in URL:
        return
    try:
        psycopg.connect(URL, password="wrong", connect_timeout=20).close()
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error), error
    else:
        raise AssertionError("a wrong password was let in")


def type_checks():
    for kind, value in VALUES:
        for binary in (False, True):
            form = "binary" if binary else "text"

            def check(kind=kind, value=value, binary=binary):
                with connect() as conn:
                    mark = "%b" if binary else "%t"
                    query = f"SELECT {mark}::{kind}, pg_typeof({mark}::{kind})::text"
                    got = conn.execute(query, [value, value], binary=binary).fetchone()
                    equal(got[0], value)

            yield f"{kind} {form} {value!r:.30}", check

    def jsonb():
        value = {"a": [1, 2.5, None, True, "ä"], "b": {"c": {}}}
        with connect() as conn:
            for binary in (False, True):
                got = conn.execute("SELECT %s::jsonb", [Jsonb(value)], binary=binary).fetchone()
                equal(got[0], value)
            equal(conn.execute("SELECT %s::jsonb->'b'->>'c'", [Jsonb(value)]).fetchone(), ("{}",))

    def nulls():
        with connect() as conn:
            equal(conn.execute("SELECT %s::int4, %s::text", [None, None]).fetchone(), (None, None))

    def client_side():
        with connect(cursor_factory=psycopg.ClientCursor) as conn:
            for kind, value in VALUES:
                equal(conn.execute(f"SELECT CAST(%s AS {kind})", [value]).fetchone()[0], value)

    yield "jsonb", jsonb
    yield "nulls", nulls
    yield "client side binding", client_side


def tables():
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_t")
        conn.execute(TABLE.format(name="psycopg_t"))
        marks = ", ".join(["%s"] * len(row(0)))
        with conn.cursor() as cur:
            cur.executemany(f"INSERT INTO psycopg_t VALUES ({marks})", [row(k) for k in range(20)])
            equal(cur.rowcount, 20)
        for binary in (False, True):
            got = conn.execute("SELECT * FROM psycopg_t ORDER BY id", binary=binary).fetchall()
            equal(got, [row(k) for k in range(20)])
        got = conn.execute("SELECT id FROM psycopg_t WHERE id = ANY(%s) ORDER BY 1", [[3, 5, 99]])
        equal(got.fetchall(), [(3,), (5,)])
        with conn.transaction(), conn.cursor(name="c") as cur:
            cur.itersize = 7
            cur.execute("SELECT id FROM psycopg_t ORDER BY id")
            equal([r[0] for r in cur], list(range(20)))


def prepared():
    with connect(prepare_threshold=1) as conn:
        for k in range(10):
            equal(conn.execute("SELECT %s::int4 + 1", [k]).fetchone(), (k + 1,))
        names = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert names[0] >= 1, names


def transactions():
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_x")
        conn.execute("CREATE TABLE psycopg_x (a int PRIMARY KEY)")
        with conn.transaction():
            conn.execute("INSERT INTO psycopg_x VALUES (1)")
            try:
                with conn.transaction():
                    conn.execute("INSERT INTO psycopg_x VALUES (2)")
                    conn.execute("INSERT INTO psycopg_x VALUES (1)")
            except psycopg.errors.UniqueViolation:
                pass
            else:
                raise AssertionError("a duplicate key was let in")
            with conn.transaction():
                conn.execute("INSERT INTO psycopg_x VALUES (3)")
        try:
            with conn.transaction():
                conn.execute("DELETE FROM psycopg_x")
                raise psycopg.Rollback()
        except psycopg.Rollback:
            pass
        equal(conn.execute("SELECT a FROM psycopg_x ORDER BY a").fetchall(), [(1,), (3,)])
        conn.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
        try:
            conn.execute("INSERT INTO psycopg_x VALUES (9)")
        except psycopg.errors.ReadOnlySqlTransaction:
            pass
        else:
            raise AssertionError("a read-only transaction has written")
        equal(conn.info.transaction_status, psycopg.pq.TransactionStatus.INERROR)
        try:
            conn.execute("SELECT 1")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        conn.execute("ROLLBACK")
        equal(conn.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)


def copying():
    rows = [row(k) for k in range(50)]
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_c")
        conn.execute(TABLE.format(name="psycopg_c"))
        types = ["int4", "int2", "int8", "float4", "float8", "numeric", "text", "bytea", "bool",
                 "date", "timestamp", "timestamptz", "interval", "uuid", "int4[]", "text[]"]
        with conn.cursor() as cur:
            for options in ("", "(FORMAT binary)"):
                conn.execute("DELETE FROM psycopg_c")
                with cur.copy(f"COPY psycopg_c FROM STDIN {options}") as copy:
                    copy.set_types(types)
                    for r in rows:
                        copy.write_row(r)
                equal(cur.rowcount, 50)
                got = conn.execute("SELECT * FROM psycopg_c ORDER BY id").fetchall()
                equal(got, rows)
                with cur.copy(f"COPY (SELECT * FROM psycopg_c ORDER BY id) TO STDOUT {options}") as copy:
                    copy.set_types(types)
                    equal(list(copy.rows()), rows)
            with cur.copy("COPY (SELECT 1, 'a,b', NULL) TO STDOUT (FORMAT csv, HEADER)") as copy:
                text = b"".join(bytes(part) for part in copy)
            equal(text, b'?column?,?column?,?column?\n1,"a,b",\n')
            try:
                with cur.copy("COPY psycopg_c (id, i2) FROM STDIN") as copy:
                    copy.write(b"1000\tnonsense\n")
            except psycopg.errors.InvalidTextRepresentation as error:
                equal(error.diag.context, 'COPY psycopg_c, line 1, column i2: "nonsense"')
            else:
                raise AssertionError("nonsense was copied in")
            equal(conn.execute("SELECT count(*) FROM psycopg_c").fetchone(), (50,))


def errors():
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_e")
        conn.execute("CREATE TABLE psycopg_e (a int PRIMARY KEY, b int NOT NULL, CONSTRAINT small CHECK (b < 10))")
        conn.execute("INSERT INTO psycopg_e VALUES (1, 1)")
        cases = [
            ("INSERT INTO psycopg_e VALUES (1, 2)", "23505", "psycopg_e_pkey", "Key (a)=(1) already exists."),
            ("INSERT INTO psycopg_e VALUES (2, 20)", "23514", "small", "Failing row contains (2, 20)."),
            ("INSERT INTO psycopg_e VALUES (3, NULL)", "23502", None, "Failing row contains (3, null)."),
        ]
        for query, state, constraint, detail in cases:
            try:
                conn.execute(query)
            except psycopg.Error as error:
                d = error.diag
                equal((d.sqlstate, d.constraint_name, d.message_detail), (state, constraint, detail))
                equal((d.schema_name, d.table_name, d.severity_nonlocalized), ("public", "psycopg_e", "ERROR"))
            else:
                raise AssertionError(f"no error: {query}")
        for query, state, position in [
            ("SELECT a, nonsense FROM psycopg_e", "42703", "11"),
            ("SELECT * FROM missing", "42P01", "15"),
            ("SELEC 1", "42601", "1"),
            ("SELECT 1/0", "22012", None),
            ("SELECT 'x'::int", "22P02", "8"),
        ]:
            try:
                conn.execute(query)
            except psycopg.Error as error:
                equal((error.sqlstate, error.diag.statement_position), (state, position))
            else:
                raise AssertionError(f"no error: {query}")
        notices = []
        conn.add_notice_handler(lambda d: notices.append((d.severity, d.sqlstate)))
        conn.execute("DROP TABLE IF EXISTS psycopg_none")
        equal(notices, [("NOTICE", "00000")])


def cancelling():
    with connect() as conn:
        timer = threading.Timer(0.3, conn.cancel_safe)
        timer.start()
        try:
            conn.execute("SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 100000) b")
        except psycopg.errors.QueryCanceled as error:
            equal(error.diag.message_primary, "canceling statement due to user request")
        else:
            raise AssertionError("the statement was not cancelled")
        finally:
            timer.join()
        equal(conn.execute("SELECT 1").fetchone(), (1,))


def timeouts():
    with connect(options="-c statement_timeout=200") as conn:
        try:
            conn.execute("SELECT pg_sleep(10)")
        except psycopg.errors.QueryCanceled as error:
            equal(error.diag.message_primary, "canceling statement due to statement timeout")
        else:
            raise AssertionError("no timeout")


def pipelines():
    with connect() as conn:
        conn.execute("DROP TABLE IF EXISTS psycopg_p")
        conn.execute("CREATE TABLE psycopg_p (a int PRIMARY KEY)")
        with conn.pipeline() as pipe:
            cursors = [conn.execute("INSERT INTO psycopg_p VALUES (%s) RETURNING a", [k]) for k in range(100)]
            pipe.sync()
            equal([c.fetchone()[0] for c in cursors], list(range(100)))
        try:
            with conn.pipeline() as pipe:
                conn.execute("INSERT INTO psycopg_p VALUES (200)")
                conn.execute("INSERT INTO psycopg_p VALUES (1)")
                conn.execute("INSERT INTO psycopg_p VALUES (201)")
        except psycopg.errors.UniqueViolation:
            pass
        else:
            raise AssertionError("a duplicate key was let in")
        # What was pipelined up to one sync is one transaction.
        equal(conn.execute("SELECT count(*) FROM psycopg_p").fetchone(), (100,))


def main():
    checks = Checks("psycopg")
    listed = [(f.__name__, f) for f in (connecting, wrong_password, tables, prepared, transactions, copying,
                                        errors, cancelling, timeouts, pipelines)]
    for name, check in listed + list(type_checks()):
        try:
            check()
        except Exception as error:  # every check is to be tried
            checks.failure(name, error)
    checks.finish()


main()
