"""What both Python programs share: values to send, and a list of checks that goes on after a failure."""

import datetime as dt
import decimal
import sys
import traceback
import uuid

UTC = dt.timezone.utc
TABLE = """
    CREATE TABLE {name} (
        id int4 PRIMARY KEY, i2 int2, i8 int8, f4 float4, f8 float8, n numeric(20, 5), t text,
        y bytea, b bool, d date, ts timestamp, tz timestamptz, iv interval, u uuid, ai int4[],
        at text[])"""

# Type, value: what is sent has to come back equal.
VALUES = [
    ("int2", -32768),
    ("int4", 2147483647),
    ("int8", -9223372036854775808),
    ("float4", 1.5),
    ("float8", -2.2250738585072014e-308),
    ("float8", float("inf")),
    ("numeric", decimal.Decimal("-12345678901234567890.000100")),
    ("numeric", decimal.Decimal("0.00000000000000000001")),
    ("numeric", decimal.Decimal("1e30")),
    ("text", "ä\n\t\"'\\ 😀"),
    ("text", ""),
    ("varchar", "varchar"),
    ("bytea", bytes(range(256))),
    ("bool", True),
    ("bool", False),
    ("date", dt.date(2024, 2, 29)),
    ("date", dt.date(1, 1, 1)),
    ("timestamp", dt.datetime(1999, 12, 31, 23, 59, 59, 999999)),
    ("timestamptz", dt.datetime(2024, 7, 1, 12, 30, 15, 250000, tzinfo=UTC)),
    ("time", dt.time(23, 59, 59, 1)),
    ("interval", dt.timedelta(days=3, hours=4, microseconds=5)),
    ("interval", dt.timedelta(days=-3)),
    ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    ("int4[]", [1, 2, 3]),
    ("int8[]", [1, None, -1]),
    ("text[]", ["a", "", 'q"u,o{te}', None, "NULL"]),
    ("bool[]", [True, False]),
    ("numeric[]", [decimal.Decimal("1.50"), decimal.Decimal("-2")]),
]


def row(key):
    """One row of TABLE."""
    return (
        key, -2, 1 << 40, 1.5, -2.25, decimal.Decimal("12.34500"), f"t{key}\n\tä\\", b"\x00\xff\n",
        key % 2 == 0, dt.date(2024, 2, 29), dt.datetime(2024, 1, 2, 3, 4, 5, 6),
        dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC), dt.timedelta(days=1, seconds=2),
        uuid.UUID(int=key), [key, -1], ["x", None, "y z"])


class Checks:
    """Runs checks, goes on after a failure, and ends the program with the right status."""

    def __init__(self, driver):
        self.driver = driver
        self.failed = 0

    def failure(self, name, error):
        """Notes a failure and where it was."""
        self.failed += 1
        place = traceback.extract_tb(error.__traceback__)[-1]
        own = [f for f in traceback.extract_tb(error.__traceback__) if "smoke" in f.filename]
        place = own[-1] if own else place
        what = " ".join(str(error).split())
        state = getattr(error, "sqlstate", None)
        state = f" {state}" if state else ""
        print(f"FAILED {self.driver} {name}: {type(error).__name__}{state}: {what} (line {place.lineno}: {place.line})")

    def finish(self):
        """Prints the outcome and exits."""
        if self.failed:
            print(f"{self.driver}: {self.failed} checks failed")
            sys.exit(1)
        print(f"ok {self.driver}")


def equal(got, expected):
    """An assertion that shows both sides."""
    assert got == expected, f"got {got!r}, expected {expected!r}"
