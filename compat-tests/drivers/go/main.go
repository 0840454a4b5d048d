// pgx against a server: `smoke postgresql://…`. pgx speaks binary for what it knows; the text
// formats are tried through its simple protocol.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

var url = ""

func connect(ctx context.Context, mode pgx.QueryExecMode) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = mode
	return pgx.ConnectConfig(ctx, config)
}

func equal(got, expected any) error {
	if !reflect.DeepEqual(got, expected) {
		return fmt.Errorf("got %#v, expected %#v", got, expected)
	}
	return nil
}

// refused checks that the error is the server's, with this code, and returns its fields.
func refused(err error, code string) (*pgconn.PgError, error) {
	var pg *pgconn.PgError
	if err == nil {
		return nil, fmt.Errorf("no error %s", code)
	}
	if !errors.As(err, &pg) || pg.Code != code {
		return nil, fmt.Errorf("expected %s: %w", code, err)
	}
	return pg, nil
}

func connecting(ctx context.Context, conn *pgx.Conn) error {
	var one int
	if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil {
		return err
	}
	if strings.Contains(url, "sslmode=require") {
		if _, ok := conn.PgConn().Conn().(*tls.Conn); !ok {
			return errors.New("the connection isn't encrypted")
		}
		config, _ := pgx.ParseConfig(url)
		config.Password = "wrong"
		_, err := pgx.ConnectConfig(ctx, config)
		if _, err = refused(err, "28P01"); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "15") {
		return fmt.Errorf("server_version %q", conn.PgConn().ParameterStatus("server_version"))
	}
	return equal(one, 1)
}

func roundTrip[T any](kind string, value T) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			var back T
			// The parentheses are for negative numbers in the simple protocol.
			if err := conn.QueryRow(ctx, "SELECT ($1)::"+kind, mode, value).Scan(&back); err != nil {
				return fmt.Errorf("%v: %w", mode, err)
			}
			if when, ok := any(back).(time.Time); ok {
				if !when.Equal(any(value).(time.Time)) {
					return fmt.Errorf("%v: got %v, expected %v", mode, back, value)
				}
				continue
			}
			if err := equal(back, value); err != nil {
				return fmt.Errorf("%v: %w", mode, err)
			}
		}
		return nil
	}
}

func numerics(ctx context.Context, conn *pgx.Conn) error {
	for _, text := range []string{"-12345678901234567890.000100", "0.00000000000000000001", "1000000000000000000000000000000", "NaN", "Infinity", "0"} {
		var value, back pgtype.Numeric
		if err := value.Scan(text); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT $1::numeric", value).Scan(&back); err != nil {
			return err
		}
		var shown string
		if err := conn.QueryRow(ctx, "SELECT ($1::numeric)::text", value).Scan(&shown); err != nil {
			return err
		}
		a, _ := value.Value()
		b, _ := back.Value()
		if err := equal(b, a); err != nil {
			return err
		}
	}
	return nil
}

func jsonb(ctx context.Context, conn *pgx.Conn) error {
	value := map[string]any{"a": []any{1.0, nil, "ä"}, "b": map[string]any{}}
	var back map[string]any
	if err := conn.QueryRow(ctx, "SELECT $1::jsonb", value).Scan(&back); err != nil {
		return err
	}
	return equal(back, value)
}

func bothFormats(ctx context.Context, conn *pgx.Conn) error {
	query := "SELECT 7::int2, 8::int8, 2.5::float8, 'ä'::text, '\\x00ff'::bytea, true, '{1,2}'::int4[], 1.50::numeric"
	for format, expected := range map[int16][]string{
		pgx.TextFormatCode:   {"7", "8", "2.5", "ä", "\\x00ff", "t", "{1,2}", "1.50"},
		pgx.BinaryFormatCode: {"\x00\x07", "\x00\x00\x00\x00\x00\x00\x00\x08", "\x40\x04\x00\x00\x00\x00\x00\x00", "ä", "\x00\xff", "\x01", "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x17\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x02", "\x00\x02\x00\x00\x00\x00\x00\x02\x00\x01\x13\x88"},
	} {
		result := conn.PgConn().ExecParams(ctx, query, nil, nil, nil, []int16{format}).Read()
		if result.Err != nil {
			return result.Err
		}
		for n, text := range expected {
			if err := equal(string(result.Rows[0][n]), text); err != nil {
				return fmt.Errorf("format %d column %d: %w", format, n, err)
			}
		}
	}
	return nil
}

func transactions(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS pgx_x; CREATE TABLE pgx_x (a int PRIMARY KEY)"); err != nil {
		return err
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO pgx_x VALUES ($1)", 1); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			if _, err := inner.Exec(ctx, "INSERT INTO pgx_x VALUES ($1)", 2); err != nil {
				return err
			}
			_, err := inner.Exec(ctx, "INSERT INTO pgx_x VALUES ($1)", 1)
			return err
		})
		if _, err := refused(err, "23505"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO pgx_x VALUES ($1)", 3)
		return err
	})
	if err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM pgx_x"); err != nil {
		return err
	}
	if err := tx.Rollback(ctx); err != nil {
		return err
	}
	rows, _ := conn.Query(ctx, "SELECT a FROM pgx_x ORDER BY a")
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return err
	}
	return equal(got, []int{1, 3})
}

func copying(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "DROP TABLE IF EXISTS pgx_c; CREATE TABLE pgx_c (a int PRIMARY KEY, b text, c timestamptz, d float8[], e jsonb)")
	if err != nil {
		return err
	}
	when := time.Date(2024, 7, 1, 12, 0, 0, 123000, time.UTC)
	source := pgx.CopyFromSlice(1000, func(k int) ([]any, error) {
		return []any{k, fmt.Sprintf("row\t%d", k), when, []float64{float64(k), 0.5}, map[string]any{"k": k}}, nil
	})
	count, err := conn.CopyFrom(ctx, pgx.Identifier{"pgx_c"}, []string{"a", "b", "c", "d", "e"}, source)
	if err != nil {
		return err
	}
	if err := equal(count, int64(1000)); err != nil {
		return err
	}
	var sum float64
	err = conn.QueryRow(ctx, "SELECT sum(d[1] + (e->>'k')::int) FROM pgx_c WHERE c = $1", when).Scan(&sum)
	if err != nil {
		return err
	}
	if err := equal(sum, 999000.0); err != nil {
		return err
	}
	var out bytes.Buffer
	if _, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT a, b FROM pgx_c WHERE a < 2 ORDER BY a) TO STDOUT"); err != nil {
		return err
	}
	if err := equal(out.String(), "0\trow\\t0\n1\trow\\t1\n"); err != nil {
		return err
	}
	in := strings.NewReader("2000,\"x,y\"\n")
	if _, err := conn.PgConn().CopyFrom(ctx, in, "COPY pgx_c (a, b) FROM STDIN (FORMAT csv)"); err != nil {
		return err
	}
	_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("2000\tz\n"), "COPY pgx_c (a, b) FROM STDIN")
	failure, err := refused(err, "23505")
	if err != nil {
		return err
	}
	return equal(failure.Where, "COPY pgx_c, line 1")
}

func refusals(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "DROP TABLE IF EXISTS pgx_e; CREATE TABLE pgx_e (a int PRIMARY KEY, b int NOT NULL, CONSTRAINT small CHECK (b < 10)); INSERT INTO pgx_e VALUES (1, 1)")
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "INSERT INTO pgx_e VALUES ($1, 2)", 1)
	pg, err := refused(err, "23505")
	if err != nil {
		return err
	}
	got := []string{pg.ConstraintName, pg.Detail, pg.SchemaName, pg.TableName, pg.SeverityUnlocalized}
	if err := equal(got, []string{"pgx_e_pkey", "Key (a)=(1) already exists.", "public", "pgx_e", "ERROR"}); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "INSERT INTO pgx_e VALUES (2, 20)")
	if pg, err = refused(err, "23514"); err != nil {
		return err
	}
	if err := equal(pg.ConstraintName, "small"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "INSERT INTO pgx_e VALUES (3, NULL)")
	if pg, err = refused(err, "23502"); err != nil {
		return err
	}
	if err := equal(pg.ColumnName, "b"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT a, nonsense FROM pgx_e")
	if pg, err = refused(err, "42703"); err != nil {
		return err
	}
	if err := equal(pg.Position, int32(11)); err != nil {
		return err
	}
	var n int
	_, err = refused(conn.QueryRow(ctx, "SELECT 1 / $1::int4", 0).Scan(&n), "22012")
	return err
}

func cancelling(ctx context.Context, conn *pgx.Conn) error {
	done := make(chan error, 1)
	long := "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 100000) b"
	go func() {
		_, err := conn.Exec(ctx, long)
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	if err := conn.PgConn().CancelRequest(ctx); err != nil {
		return err
	}
	pg, err := refused(<-done, "57014")
	if err != nil {
		return err
	}
	if err := equal(pg.Message, "canceling statement due to user request"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1")
	return err
}

func batches(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS pgx_b; CREATE TABLE pgx_b (a int PRIMARY KEY)"); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for k := range 100 {
		batch.Queue("INSERT INTO pgx_b VALUES ($1)", k)
	}
	var count int
	batch.Queue("SELECT count(*) FROM pgx_b").QueryRow(func(row pgx.Row) error { return row.Scan(&count) })
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if err := equal(count, 100); err != nil {
		return err
	}
	// One sync: a failure undoes what came before it in the batch.
	batch = &pgx.Batch{}
	batch.Queue("INSERT INTO pgx_b VALUES (200)")
	batch.Queue("INSERT INTO pgx_b VALUES (1)")
	batch.Queue("INSERT INTO pgx_b VALUES (201)")
	if _, err := refused(conn.SendBatch(ctx, batch).Close(), "23505"); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM pgx_b").Scan(&count); err != nil {
		return err
	}
	return equal(count, 100)
}

func pipelines(ctx context.Context, conn *pgx.Conn) error {
	pipeline := conn.PgConn().StartPipeline(ctx)
	for k := range 10 {
		pipeline.SendQueryParams("SELECT 100 / $1::int4", [][]byte{[]byte(fmt.Sprint(k))}, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			return err
		}
	}
	answers, failures := 0, 0
	for syncs := 0; syncs < 10; {
		result, err := pipeline.GetResults()
		switch result := result.(type) {
		case *pgconn.ResultReader:
			if r := result.Read(); r.Err == nil {
				answers++
			} else {
				failures++
			}
		case *pgconn.PipelineSync:
			syncs++
		default:
			if err == nil {
				return fmt.Errorf("no result and no error")
			}
			failures++
		}
	}
	if err := pipeline.Close(); err != nil {
		return err
	}
	return equal([]int{answers, failures}, []int{9, 1})
}

func main() {
	url = os.Args[1]
	type check struct {
		name string
		run  func(context.Context, *pgx.Conn) error
	}
	checks := []check{
		{"connecting", connecting}, {"numeric", numerics}, {"both formats", bothFormats},
		{"transactions", transactions}, {"copy", copying}, {"errors", refusals},
		{"cancellation", cancelling}, {"batches", batches}, {"pipelines", pipelines},
		{"int2", roundTrip("int2", int16(math.MinInt16))},
		{"int4", roundTrip("int4", int32(math.MaxInt32))},
		{"int8", roundTrip("int8", int64(math.MinInt64))},
		{"float4", roundTrip("float4", float32(1.5))},
		{"float8", roundTrip("float8", math.SmallestNonzeroFloat64)},
		{"infinity", roundTrip("float8", math.Inf(-1))},
		{"text", roundTrip("text", "ä\n\t\"'\\ 😀")},
		{"bytea", roundTrip("bytea", []byte{0, 255, 10, 92})},
		{"bool", roundTrip("bool", true)},
		{"date", roundTrip("date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC))},
		{"timestamp", roundTrip("timestamp", time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC))},
		{"timestamptz", roundTrip("timestamptz", time.Date(2024, 7, 1, 12, 30, 15, 250000000, time.UTC))},
		{"interval", roundTrip("interval", pgtype.Interval{Months: 14, Days: 3, Microseconds: 5, Valid: true})},
		{"uuid", roundTrip("uuid", pgtype.UUID{Bytes: [16]byte{1, 2, 3, 15: 255}, Valid: true})},
		{"jsonb", jsonb}, {"jsonb text", roundTrip("jsonb", `{"a": [1, null, "ä"], "b": {}}`)},
		{"int4[]", roundTrip("int4[]", []int32{1, 2, 3})},
		{"text[]", roundTrip("text[]", []string{"a", "", "q\"u,o{te}", "NULL"})},
		{"null", roundTrip[*string]("text", nil)},
	}
	failed := 0
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		conn, err := connect(ctx, pgx.QueryExecModeCacheStatement)
		if err == nil {
			err = check.run(ctx, conn)
			_ = conn.Close(ctx)
		}
		cancel()
		if err != nil {
			failed++
			fmt.Printf("FAILED pgx %s: %s\n", check.name, strings.Join(strings.Fields(err.Error()), " "))
		}
	}
	if failed > 0 {
		fmt.Printf("pgx: %d checks failed\n", failed)
		os.Exit(1)
	}
	fmt.Println("ok pgx")
}
