//! Definitions end to end over a store in memory. Messages and texts are PostgreSQL 15's.

use std::sync::Arc;

use meridian_catalog::{Catalog, Overlay};
use meridian_cluster::{Store, StoreConfig, TxnOptions};
use meridian_sql::bind::statement::bind_query_statement;
use meridian_sql::parse::{Source, Statement, parse};
use meridian_types::{Datum, EvalContext, PgError, PgType, io};

use super::{DdlContext, execute};
use crate::catalog_store::{self, SessionCatalog};
use crate::virtuals::{CatalogHost, PlainSession, SessionInfo};
use crate::{Cursor, ExecError, Node, Prepared, StatementContext, datums};

struct Server {
    node: Arc<Node>,
    session: Arc<PlainSession>,
}

fn pg(error: ExecError) -> PgError {
    match error {
        ExecError::Pg(error) => error,
        ExecError::StatementRetry => PgError::internal("retry"),
    }
}

impl Server {
    async fn new() -> Server {
        let store = Store::open(StoreConfig::in_memory()).await.expect("store");
        let node = catalog_store::open_node(store).await.expect("node");
        Server { node, session: Arc::default() }
    }

    fn context(&self, catalog: &Arc<Catalog>) -> Arc<StatementContext> {
        let view = SessionCatalog::new(catalog.clone(), self.session.identity());
        let host = CatalogHost {
            view: Arc::new(view),
            node: self.node.clone(),
            session: self.session.clone(),
        };
        Arc::new(StatementContext {
            eval: EvalContext { host: Arc::new(host), ..EvalContext::bare() },
            params: Arc::from([]),
            session: self.session.clone(),
            node: self.node.clone(),
            catalog: catalog.clone(),
            memory_bytes: 64 << 20,
            cancel: meridian_cluster::CancelToken::new(),
            deferred: Arc::default(),
            read_committed: true,
            backend: 1,
        })
    }

    /// Runs each statement in a transaction of its own; the rows of the last one, and notices.
    async fn try_run(&self, text: &str) -> Result<(Vec<String>, Vec<String>), PgError> {
        let mut out = Vec::new();
        let mut notices = Vec::new();
        for parsed in parse(text)? {
            let catalog = self.node.catalog();
            let context = self.context(&catalog);
            let mut txn = self.node.store().begin(TxnOptions::default());
            out.clear();
            match &parsed.statement {
                Statement::Ddl(ddl) => {
                    let mut overlay = Overlay::new(catalog.clone());
                    let cx = DdlContext {
                        statement: context,
                        txn: &mut txn,
                        overlay: &mut overlay,
                        identity: self.session.identity(),
                        text,
                        execute: None,
                        notices: &mut notices,
                        in_block: false,
                    };
                    let tag = execute(ddl, cx).await.map_err(pg)?;
                    txn.commit().await.map_err(crate::from_kv)?;
                    catalog_store::publish(&self.node, &overlay);
                    txn.release_locks();
                    out.push(tag);
                }
                Statement::Query(query) => {
                    let view = SessionCatalog::new(catalog.clone(), self.session.identity());
                    let source = Source { text: text.into(), visible: true };
                    let eval = &context.eval;
                    let query = bind_query_statement(&view, eval, &source, query, &[], false)?;
                    let types: Vec<PgType> = query.output.iter().map(|c| c.ty).collect();
                    let prepared = Arc::new(Prepared::new(Arc::new(query)));
                    let mut cursor = Cursor::open(&prepared, context.clone()).map_err(pg)?;
                    while let Some(batch) = cursor.next(&mut txn, 100).await.map_err(pg)? {
                        for row in datums(&batch, cursor.columns()) {
                            let cell = |(v, ty): (&Datum, &PgType)| {
                                if v.is_null() {
                                    Ok("null".into())
                                } else {
                                    io::to_text(v, *ty, eval)
                                }
                            };
                            let cells: Result<Vec<String>, PgError> =
                                row.iter().zip(&types).map(cell).collect();
                            out.push(cells?.join("|"));
                        }
                    }
                    txn.commit().await.map_err(crate::from_kv)?;
                    txn.release_locks();
                }
                other => panic!("{other:?}"),
            }
        }
        let notices = notices.iter().map(|n| n.fields().message.clone()).collect();
        Ok((out, notices))
    }

    async fn run(&self, text: &str) -> Vec<String> {
        match self.try_run(text).await {
            Ok((rows, _)) => rows,
            Err(error) => panic!("{text}: {error} {:?}", error.fields().detail),
        }
    }

    async fn error(&self, text: &str) -> String {
        let error = self.try_run(text).await.expect_err(text);
        let fields = error.fields();
        let mut out = format!("{} {}", error.state().as_str(), fields.message);
        for part in [&fields.detail, &fields.hint].into_iter().flatten() {
            out.push_str(&format!(" / {part}"));
        }
        out
    }
}

const DEFINITIONS: &str = "
    CREATE TABLE a (id serial PRIMARY KEY, name varchar(20) NOT NULL DEFAULT 'x', n numeric(8,2),
        UNIQUE (name, n), CHECK (n > 0));
    CREATE TABLE b (id int GENERATED ALWAYS AS IDENTITY, a_id int REFERENCES a ON DELETE CASCADE,
        note text);
    CREATE INDEX ON b (a_id DESC, lower(note)) WHERE a_id > 5;
    CREATE VIEW v AS SELECT id, name FROM a WHERE n > 1;
    COMMENT ON TABLE a IS 'things';
    INSERT INTO a (name, n) VALUES ('one', 1.5), ('two', 2);
    INSERT INTO b (a_id, note) VALUES (1, 'B1'), (2, 'B2')";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_described_as_postgresql_does() {
    let s = Server::new().await;
    s.run(DEFINITIONS).await;
    assert_eq!(
        s.run("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY conname")
            .await,
        [
            "a_n_check|CHECK ((n > (0)::numeric))",
            "a_name_n_key|UNIQUE (name, n)",
            "a_pkey|PRIMARY KEY (id)",
            "b_a_id_fkey|FOREIGN KEY (a_id) REFERENCES a(id) ON DELETE CASCADE",
        ]
    );
    assert_eq!(
        s.run("SELECT pg_get_indexdef('b_a_id_lower_idx'::regclass)").await,
        [
            "CREATE INDEX b_a_id_lower_idx ON public.b USING btree (a_id DESC, lower(note)) WHERE (a_id > 5)"
        ]
    );
    assert_eq!(
        s.run(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
                 WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)
             FROM pg_attribute a WHERE a.attrelid = 'a'::regclass AND a.attnum > 0 ORDER BY attnum"
        )
        .await[..1],
        ["id|integer|t|nextval('a_id_seq'::regclass)"]
    );
    assert_eq!(
        s.run("SELECT relname, relkind FROM pg_class WHERE oid >= 16384 ORDER BY 1").await,
        [
            "a|r",
            "a_id_seq|S",
            "a_name_n_key|i",
            "a_pkey|i",
            "b|r",
            "b_a_id_lower_idx|i",
            "b_id_seq|S",
            "v|v"
        ]
    );
    assert_eq!(s.run("SELECT obj_description('a'::regclass, 'pg_class')").await, ["things"]);
    assert_eq!(s.run("SELECT * FROM v").await, ["1|one", "2|two"]);
    assert_eq!(
        s.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1")
            .await,
        ["a", "b", "v"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dependencies_are_respected() {
    let s = Server::new().await;
    s.run(DEFINITIONS).await;
    assert_eq!(
        s.error("DROP TABLE a").await,
        "2BP01 cannot drop table a because other objects depend on it / \
         constraint b_a_id_fkey on table b depends on table a\nview v depends on table a / \
         Use DROP ... CASCADE to drop the dependent objects too."
    );
    let (tags, notices) = s.try_run("DROP TABLE a CASCADE").await.expect("dropped");
    assert_eq!(
        (tags.join(""), notices.join("")),
        ("DROP TABLE".into(), "drop cascades to 2 other objects".into())
    );
    assert_eq!(s.error("SELECT * FROM v").await, "42P01 relation \"v\" does not exist");
    assert_eq!(s.error("DROP TABLE a").await, "42P01 table \"a\" does not exist");
    let (_, notices) = s.try_run("DROP TABLE IF EXISTS a").await.expect("skipped");
    assert_eq!(notices, ["table \"a\" does not exist, skipping"]);
    assert_eq!(s.error("CREATE TABLE b (x int)").await, "42P07 relation \"b\" already exists");
}

/// A view is kept as text: a column more must not become one of the view's.
#[tokio::test(flavor = "multi_thread")]
async fn views_keep_their_columns() {
    let s = Server::new().await;
    s.run("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    s.run("CREATE VIEW named AS SELECT a, count(*) OVER () AS n FROM t").await;
    s.run("ALTER TABLE t ADD COLUMN b int DEFAULT 7").await;
    assert_eq!(s.run("SELECT * FROM named").await, ["1|1"]);
    let refused = |view: &str| {
        format!(
            "0A000 adding a column is not supported yet where view \"{view}\" reads all columns by *"
        )
    };
    for (view, query) in [
        ("star", "SELECT *, 5 AS x FROM t"),
        ("inner_star", "SELECT 1 AS one WHERE EXISTS (SELECT t.* FROM t UNION SELECT 1, 2)"),
        ("natural", "SELECT 2 AS two FROM (t AS l NATURAL JOIN t AS r)"),
    ] {
        s.run(&format!("CREATE VIEW {view} AS {query}")).await;
        assert_eq!(s.error("ALTER TABLE t ADD COLUMN c int").await, refused(view));
        s.run(&format!("DROP VIEW {view}")).await;
    }
    s.run("CREATE VIEW over AS SELECT * FROM named").await;
    let wider = "CREATE OR REPLACE VIEW named AS SELECT a, count(*) OVER () AS n, b FROM t";
    assert_eq!(s.error(wider).await, refused("over"));
    s.run("DROP VIEW over").await;
    s.run(wider).await;
    assert_eq!(s.run("SELECT * FROM named").await, ["1|1|7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered() {
    let s = Server::new().await;
    s.run("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, '10'), (2, '20')").await;
    s.run("ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 7, ADD COLUMN d serial").await;
    assert_eq!(s.run("SELECT * FROM t ORDER BY a").await, ["1|10|7|1", "2|20|7|2"]);
    s.run("ALTER TABLE t ALTER b TYPE int USING b::int, DROP COLUMN c").await;
    assert_eq!(s.run("SELECT a, b + 1, d FROM t ORDER BY a").await, ["1|11|1", "2|21|2"]);
    s.run("ALTER TABLE t ADD PRIMARY KEY (a)").await;
    assert_eq!(s.run("SELECT b FROM t WHERE a = 2").await, ["20"]);
    assert_eq!(
        s.error("ALTER TABLE t ADD CHECK (b > 15)").await,
        "23514 check constraint \"t_b_check\" of relation \"t\" is violated by some row"
    );
    assert_eq!(
        s.error("INSERT INTO t VALUES (3, 1); CREATE UNIQUE INDEX ON t ((a / 3))").await,
        "23505 could not create unique index \"t_expr_idx\" / Key ((a / 3))=(0) is duplicated."
    );
    s.run("ALTER TABLE t RENAME b TO bb; ALTER TABLE t RENAME TO u; TRUNCATE u").await;
    assert_eq!(s.run("SELECT count(bb) FROM u").await, ["0"]);
    assert_eq!(
        s.error("ALTER TABLE u ADD FOREIGN KEY (bb) REFERENCES u (bb)").await,
        "42830 there is no unique constraint matching given keys for referenced table \"u\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_count() {
    let s = Server::new().await;
    s.run("CREATE SEQUENCE q START 5 INCREMENT 2 MAXVALUE 8").await;
    assert_eq!(
        s.run("SELECT nextval('q'), nextval('q'), currval('q'), lastval()").await,
        ["5|7|7|7"]
    );
    assert_eq!(
        s.error("SELECT nextval('q')").await,
        "2200H nextval: reached maximum value of sequence \"q\" (8)"
    );
    s.run("ALTER SEQUENCE q RESTART WITH 6 CYCLE").await;
    assert_eq!(
        s.run("SELECT nextval('q'), nextval('q'), setval('q', 3), nextval('q')").await,
        ["6|8|3|5"]
    );
    s.run("CREATE TABLE m AS SELECT 1 AS one, 'x' AS y").await;
    assert_eq!(s.run("SELECT * FROM m").await, ["1|x"]);
}

/// Keys that the store holds for a table.
fn stored_keys(s: &Server, storage: u32) -> usize {
    let (start, end) = meridian_catalog::key::table_span(storage);
    let span = meridian_cluster::Span { start: start.into(), end: end.into() };
    s.node.store().sample(&span, 100).expect("reads").0
}

fn storage_id(s: &Server, name: &str) -> u32 {
    let catalog = s.node.catalog();
    let found = catalog.relations().find_map(|r| match r {
        meridian_catalog::Relation::Table(t) if t.name == name => Some(t.storage_id),
        _ => None,
    });
    found.expect("the table")
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_of_dropped_tables_is_given_back() {
    let dir = std::env::temp_dir().join(format!("meridian-buried-{}", std::process::id()));
    let store = Store::open(StoreConfig::at(&dir)).await.expect("store");
    let node = catalog_store::open_node(store).await.expect("node");
    let s = Server { node, session: Arc::default() };
    let store = s.node.store().clone();
    s.run("CREATE TABLE t (a int PRIMARY KEY, b int); CREATE INDEX i ON t (b)").await;
    s.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    let first = storage_id(&s, "t");
    assert_eq!(stored_keys(&s, first), 4);
    s.run("DROP INDEX i").await;
    store.compact().await.expect("compacted");
    assert_eq!(stored_keys(&s, first), 2, "the index's entries are gone");
    s.run("TRUNCATE t; INSERT INTO t VALUES (3, 3)").await;
    store.compact().await.expect("compacted");
    assert_eq!(stored_keys(&s, first), 0, "the old storage is empty");
    let second = storage_id(&s, "t");
    assert_eq!(stored_keys(&s, second), 1, "and the new one isn't");
    // What the store has forgotten is found when a node opens.
    let (lost, _) = meridian_catalog::key::table_span(4_000_000);
    let key = [lost.as_slice(), &[0, 1, 7]].concat();
    store.put_raw(key.into(), vec![1].into()).await.expect("put");
    assert_eq!(stored_keys(&s, 4_000_000), 1);
    catalog_store::open_node(store.clone()).await.expect("opens");
    store.compact().await.expect("compacted");
    assert_eq!(stored_keys(&s, 4_000_000), 0);
    assert_eq!(stored_keys(&s, second), 1);
    store.shutdown().await.expect("shuts down");
    std::fs::remove_dir_all(dir).expect("removed");
}
