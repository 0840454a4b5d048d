import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.util.PGInterval;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** pgjdbc against a server: {@code java -cp postgresql.jar Smoke.java postgresql://…}. */
public class Smoke {
    interface Check {
        void run(Connection conn) throws Exception;
    }

    interface Failing {
        void run() throws Exception;
    }

    static String jdbc;
    static Properties properties = new Properties();
    static boolean secure;

    public static void main(String[] args) throws Exception {
        URI uri = new URI(args[0]);
        String[] user = uri.getUserInfo().split(":", 2);
        secure = uri.getQuery().contains("sslmode=require");
        jdbc = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
        properties.setProperty("user", user[0]);
        if (user.length > 1) properties.setProperty("password", user[1]);
        properties.setProperty("sslmode", secure ? "require" : "disable");
        properties.setProperty("connectTimeout", "20");
        properties.setProperty("socketTimeout", "60");

        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("connecting", Smoke::connecting);
        checks.put("types in text and binary", Smoke::types);
        checks.put("arrays", Smoke::arrays);
        checks.put("transactions", Smoke::transactions);
        checks.put("batch", Smoke::batch);
        checks.put("copy", Smoke::copy);
        checks.put("errors", Smoke::errors);
        checks.put("cancellation", Smoke::cancellation);
        checks.put("query timeout", Smoke::queryTimeout);
        checks.put("fetch size", Smoke::fetchSize);
        checks.put("generated keys", Smoke::generatedKeys);
        checks.put("metadata", Smoke::metadata);
        checks.put("simple protocol", Smoke::simpleProtocol);
        int failed = 0;
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            try (Connection conn = connect(Map.of())) {
                check.getValue().run(conn);
            } catch (Throwable error) {
                failed++;
                String state = error instanceof SQLException e ? e.getSQLState() + " " : "";
                String line = "";
                for (StackTraceElement at : error.getStackTrace()) {
                    if (line.isEmpty() && at.getClassName().startsWith("Smoke") && !at.getMethodName().equals("equal")) {
                        line = " (line " + at.getLineNumber() + ")";
                    }
                }
                System.out.println("FAILED pgjdbc " + check.getKey() + ": " + state
                    + String.valueOf(error.getMessage()).replaceAll("\\s+", " ") + line);
            }
        }
        System.out.println(failed > 0 ? "pgjdbc: " + failed + " checks failed" : "ok pgjdbc");
        System.exit(failed > 0 ? 1 : 0);
    }

    static Connection connect(Map<String, String> more) throws SQLException {
        Properties all = new Properties();
        all.putAll(properties);
        all.putAll(more);
        return DriverManager.getConnection(jdbc, all);
    }

    static void equal(Object got, Object expected) {
        if (!Objects.deepEquals(got, expected)) {
            throw new AssertionError("got " + show(got) + ", expected " + show(expected));
        }
    }

    static String show(Object value) {
        return value instanceof Object[] array ? Arrays.deepToString(array) : String.valueOf(value);
    }

    static ServerErrorMessage refused(String state, Failing body) throws Exception {
        try {
            body.run();
        } catch (PSQLException error) {
            if (!state.equals(error.getSQLState())) throw error;
            return error.getServerErrorMessage();
        }
        throw new AssertionError("no error " + state);
    }

    static void run(Connection conn, String... statements) throws SQLException {
        try (Statement s = conn.createStatement()) {
            for (String text : statements) s.execute(text);
        }
    }

    static Object one(Connection conn, String query) throws SQLException {
        try (Statement s = conn.createStatement(); ResultSet r = s.executeQuery(query)) {
            if (!r.next()) throw new AssertionError("no row: " + query);
            return r.getObject(1);
        }
    }

    static void connecting(Connection conn) throws Exception {
        equal(one(conn, "SELECT 1"), 1);
        equal(conn.getMetaData().getDatabaseMajorVersion(), 15);
        equal(conn.isValid(5), true);
        if (!secure) return;
        // JDBC has no call that tells whether a connection is encrypted; the server knows.
        refused("28P01", () -> connect(Map.of("password", "wrong")).close());
    }

    static void types(Connection conn) throws Exception {
        Map<String, Object> values = new LinkedHashMap<>();
        values.put("int2", -32768);
        values.put("int4", Integer.MAX_VALUE);
        values.put("int8", Long.MIN_VALUE);
        values.put("float4", 1.5f);
        values.put("float8", Double.MIN_NORMAL);
        values.put("numeric", new BigDecimal("-12345678901234567890.000100"));
        values.put("text", "ä\n\t\"'\\ 😀");
        values.put("varchar", "");
        values.put("bytea", new byte[] {0, -1, 10, 92});
        values.put("bool", true);
        values.put("date", LocalDate.of(2024, 2, 29));
        values.put("time", LocalTime.of(23, 59, 59, 1000));
        values.put("timestamp", LocalDateTime.of(1999, 12, 31, 23, 59, 59, 999_999_000));
        values.put("timestamptz", OffsetDateTime.of(2024, 7, 1, 12, 30, 15, 250_000_000, ZoneOffset.UTC));
        values.put("interval", new PGInterval(1, 2, 3, 4, 5, 6.5));
        values.put("uuid", UUID.fromString("12345678-1234-5678-1234-567812345678"));
        PGobject json = new PGobject();
        json.setType("jsonb");
        json.setValue("{\"a\": [1, null, \"ä\"], \"b\": {}}");
        values.put("jsonb", json);
        List<String> wrong = new ArrayList<>();
        for (Map.Entry<String, Object> entry : values.entrySet()) {
            Object sent = entry.getValue();
            // After as many executions as its threshold says pgjdbc prepares by name and asks for binary.
            try (PreparedStatement p = conn.prepareStatement("SELECT ?::" + entry.getKey())) {
                p.unwrap(PGStatement.class).setPrepareThreshold(3);
                for (int turn = 0; turn < 6; turn++) {
                    p.setObject(1, sent);
                    try (ResultSet r = p.executeQuery()) {
                        r.next();
                        boolean time = sent.getClass().getPackageName().equals("java.time");
                        equal(time ? r.getObject(1, sent.getClass()) : r.getObject(1), sent);
                    }
                }
            } catch (SQLException | AssertionError error) {
                wrong.add(entry.getKey() + ": " + error.getMessage());
            }
        }
        if (!wrong.isEmpty()) throw new AssertionError(String.join("; ", wrong));
    }

    static void arrays(Connection conn) throws Exception {
        Map<String, Object[]> values = new LinkedHashMap<>();
        values.put("int4", new Integer[] {1, null, -3});
        values.put("text", new String[] {"a", "", "q\"u,o{te}", null, "NULL"});
        values.put("float8", new Double[] {1.5, -2.0});
        for (Map.Entry<String, Object[]> entry : values.entrySet()) {
            try (PreparedStatement p = conn.prepareStatement("SELECT ?::" + entry.getKey() + "[]")) {
                p.unwrap(PGStatement.class).setPrepareThreshold(2);
                for (int turn = 0; turn < 4; turn++) {
                    p.setArray(1, conn.createArrayOf(entry.getKey(), entry.getValue()));
                    try (ResultSet r = p.executeQuery()) {
                        r.next();
                        equal(r.getArray(1).getArray(), entry.getValue());
                    }
                }
            }
        }
    }

    static void transactions(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS jdbc_x", "CREATE TABLE jdbc_x (a int PRIMARY KEY)");
        conn.setAutoCommit(false);
        run(conn, "INSERT INTO jdbc_x VALUES (1)");
        Savepoint savepoint = conn.setSavepoint("s");
        run(conn, "INSERT INTO jdbc_x VALUES (2)");
        refused("23505", () -> run(conn, "INSERT INTO jdbc_x VALUES (1)"));
        refused("25P02", () -> run(conn, "SELECT 1"));
        conn.rollback(savepoint);
        run(conn, "INSERT INTO jdbc_x VALUES (3)");
        conn.commit();
        run(conn, "DELETE FROM jdbc_x");
        conn.rollback();
        conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        conn.setReadOnly(true);
        equal(one(conn, "SELECT string_agg(a::text, ',' ORDER BY a) FROM jdbc_x"), "1,3");
        refused("25006", () -> run(conn, "INSERT INTO jdbc_x VALUES (9)"));
        conn.rollback();
    }

    static void batch(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS jdbc_b", "CREATE TABLE jdbc_b (a int PRIMARY KEY, t text)");
        conn.setAutoCommit(false);
        try (PreparedStatement p = conn.prepareStatement("INSERT INTO jdbc_b VALUES (?, ?)")) {
            for (int k = 0; k < 1000; k++) {
                p.setInt(1, k);
                p.setString(2, "t" + k);
                p.addBatch();
            }
            equal(Arrays.stream(p.executeBatch()).sum(), 1000);
            conn.commit();
            for (int k : new int[] {2000, 1, 2001}) {
                p.setInt(1, k);
                p.setString(2, "again");
                p.addBatch();
            }
            try {
                p.executeBatch();
                throw new AssertionError("a duplicate key was let in");
            } catch (BatchUpdateException error) {
                equal(error.getSQLState(), "23505");
            }
            conn.rollback();
        }
        equal(one(conn, "SELECT count(*) FROM jdbc_b"), 1000L);
        conn.commit();
        conn.setAutoCommit(true);
        try (Connection rewriting = connect(Map.of("reWriteBatchedInserts", "true"));
             PreparedStatement p = rewriting.prepareStatement("INSERT INTO jdbc_b VALUES (?, ?)")) {
            for (int k = 5000; k < 5100; k++) {
                p.setInt(1, k);
                p.setString(2, "t");
                p.addBatch();
            }
            p.executeBatch();
        }
        equal(one(conn, "SELECT count(*) FROM jdbc_b"), 1100L);
    }

    static void copy(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS jdbc_c", "CREATE TABLE jdbc_c (a int PRIMARY KEY, b text)");
        var copies = conn.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder text = new StringBuilder();
        for (int k = 0; k < 1000; k++) text.append(k).append("\ttext ").append(k).append('\n');
        equal(copies.copyIn("COPY jdbc_c FROM STDIN", new StringReader(text.toString())), 1000L);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        equal(copies.copyOut("COPY (SELECT * FROM jdbc_c ORDER BY a) TO STDOUT", out), 1000L);
        equal(out.toString(StandardCharsets.UTF_8), text.toString());
        var message = refused("23505", () -> copies.copyIn("COPY jdbc_c FROM STDIN", new StringReader("1\tx\n")));
        equal(message.getWhere(), "COPY jdbc_c, line 1");
        equal(one(conn, "SELECT count(*) FROM jdbc_c"), 1000L);
    }

    static void errors(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS jdbc_e",
            "CREATE TABLE jdbc_e (a int PRIMARY KEY, b int NOT NULL, CONSTRAINT small CHECK (b < 10))",
            "INSERT INTO jdbc_e VALUES (1, 1)");
        var m = refused("23505", () -> run(conn, "INSERT INTO jdbc_e VALUES (1, 2)"));
        equal(List.of(m.getConstraint(), m.getDetail(), m.getSchema(), m.getTable(), m.getSeverity()),
            List.of("jdbc_e_pkey", "Key (a)=(1) already exists.", "public", "jdbc_e", "ERROR"));
        m = refused("23514", () -> run(conn, "INSERT INTO jdbc_e VALUES (2, 20)"));
        equal(List.of(m.getConstraint(), m.getDetail()), List.of("small", "Failing row contains (2, 20)."));
        m = refused("23502", () -> run(conn, "INSERT INTO jdbc_e VALUES (3, NULL)"));
        equal(m.getColumn(), "b");
        m = refused("42703", () -> run(conn, "SELECT a, nonsense FROM jdbc_e"));
        equal(m.getPosition(), 11);
        refused("22012", () -> run(conn, "SELECT 1/0"));
        refused("42601", () -> run(conn, "SELEC 1"));
        try (Statement s = conn.createStatement()) {
            s.execute("DROP TABLE IF EXISTS jdbc_none");
            equal(s.getWarnings() == null ? null : s.getWarnings().getSQLState(), "00000");
        }
    }

    static final String LONG = "SELECT count(*) FROM generate_series(1, 30000) a, generate_series(1, 100000) b";

    static void cancellation(Connection conn) throws Exception {
        try (Statement s = conn.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    s.cancel();
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
            other.start();
            var m = refused("57014", () -> s.executeQuery(LONG));
            equal(m.getMessage(), "canceling statement due to user request");
            other.join();
        }
        equal(one(conn, "SELECT 1"), 1);
    }

    static void queryTimeout(Connection conn) throws Exception {
        try (Statement s = conn.createStatement()) {
            s.setQueryTimeout(1);
            refused("57014", () -> s.executeQuery(LONG));
        }
        equal(one(conn, "SELECT 1"), 1);
    }

    static void fetchSize(Connection conn) throws Exception {
        conn.setAutoCommit(false);
        try (PreparedStatement p = conn.prepareStatement("SELECT i FROM generate_series(1, ?) i ORDER BY i")) {
            p.setFetchSize(7);
            p.setInt(1, 100);
            try (ResultSet r = p.executeQuery()) {
                int rows = 0;
                while (r.next()) equal(r.getInt(1), ++rows);
                equal(rows, 100);
            }
        }
        conn.commit();
    }

    static void generatedKeys(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS jdbc_g", "CREATE TABLE jdbc_g (id serial PRIMARY KEY, t text)");
        try (PreparedStatement p = conn.prepareStatement("INSERT INTO jdbc_g (t) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
            p.setString(1, "x");
            equal(p.executeUpdate(), 1);
            try (ResultSet r = p.getGeneratedKeys()) {
                r.next();
                equal(r.getInt("id"), 1);
            }
        }
        try (Statement s = conn.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
             ResultSet r = s.executeQuery("SELECT id, t FROM jdbc_g")) {
            r.next();
            r.updateString("t", "y");
            r.updateRow();
        }
        equal(one(conn, "SELECT t FROM jdbc_g"), "y");
    }

    static void metadata(Connection conn) throws Exception {
        run(conn, "DROP TABLE IF EXISTS jdbc_m", "CREATE TABLE jdbc_m (a int PRIMARY KEY, b varchar(10) NOT NULL, c numeric(8,2))");
        DatabaseMetaData data = conn.getMetaData();
        List<String> columns = new ArrayList<>();
        try (ResultSet r = data.getColumns(null, "public", "jdbc_m", null)) {
            while (r.next()) columns.add(r.getString("COLUMN_NAME") + ":" + r.getString("TYPE_NAME") + ":" + r.getInt("COLUMN_SIZE"));
        }
        equal(columns, List.of("a:int4:10", "b:varchar:10", "c:numeric:8"));
        try (ResultSet r = data.getPrimaryKeys(null, "public", "jdbc_m")) {
            r.next();
            equal(r.getString("COLUMN_NAME") + ":" + r.getString("PK_NAME"), "a:jdbc_m_pkey");
        }
        try (ResultSet r = data.getTables(null, "public", "jdbc_m", new String[] {"TABLE"})) {
            equal(r.next(), true);
        }
    }

    static void simpleProtocol(Connection conn) throws Exception {
        try (Connection simple = connect(Map.of("preferQueryMode", "simple"));
             PreparedStatement p = simple.prepareStatement("SELECT ?::int4 + 1, ?::text")) {
            p.setInt(1, 41);
            p.setString(2, "it's");
            try (ResultSet r = p.executeQuery()) {
                r.next();
                equal(List.of(r.getInt(1), r.getString(2)), List.of(42, "it's"));
            }
        }
    }
}
