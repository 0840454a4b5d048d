//! A node with a few tables, and statements as text.

use std::sync::Arc;

use meridian_catalog::{
    Catalog, ColumnDesc, ConstraintDesc, ConstraintKind, Descriptor, FkAction, IndexColumn,
    IndexDesc, IndexState, Relation, TableDesc,
};
use meridian_cluster::{CancelToken, Store, StoreConfig, Txn, TxnOptions};
use meridian_sql::bind::CatalogView;
use meridian_sql::bind::statement::bind_query_statement;
use meridian_sql::parse::{Source, Statement, parse};
use meridian_sql::plan::Query;
use meridian_types::arrow::Format;
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, EvalContext, PgError, PgType, io};

use crate::catalog_store::SessionIdentity;
use crate::ddl::SequenceState;
use crate::virtuals::SessionInfo;
use crate::{Cursor, ExecError, KeyPlan, Node, Prepared, StatementContext, datums};

/// A node and the catalog that its statements are bound in.
pub(super) struct Fixture {
    pub(super) node: Arc<Node>,
    pub(super) catalog: Arc<Catalog>,
    schema: Oid,
    deferred: Arc<parking_lot::Mutex<crate::Deferred>>,
}

struct View<'a>(&'a Catalog, Oid);

impl CatalogView for View<'_> {
    fn relation(&self, _: Option<&str>, name: &str) -> Option<Relation> {
        self.0.relation_in(self.1, name)
    }
    fn relation_by_oid(&self, oid: Oid) -> Option<Relation> {
        self.0.relation(oid)
    }
    fn relation_by_row_type(&self, oid: Oid) -> Option<Relation> {
        self.0.relation_of_row_type(oid)
    }
    fn schema_oid(&self, name: &str) -> Option<Oid> {
        (name == "public").then_some(self.1)
    }
    fn schema_name(&self, _: Oid) -> Option<Arc<str>> {
        Some("public".into())
    }
    fn type_by_name(&self, _: Option<&str>, _: &str) -> Option<Oid> {
        None
    }
    fn type_name(&self, _: Oid) -> Option<Arc<str>> {
        None
    }
    fn database(&self) -> &'static str {
        "postgres"
    }
    fn user(&self) -> &'static str {
        "postgres"
    }
}

/// A session without settings.
#[derive(Debug)]
struct Session;

impl SessionInfo for Session {
    fn identity(&self) -> Arc<SessionIdentity> {
        Arc::new(SessionIdentity {
            database: 5,
            database_name: "postgres".into(),
            user: 10,
            user_name: "postgres".into(),
            session_user: 10,
            search_path: Arc::from(["public".to_owned()]),
            backend: 1,
        })
    }
    fn sequences(&self) -> Arc<SequenceState> {
        Arc::default()
    }
    fn setting(&self, _: &str) -> Option<String> {
        None
    }
    fn set_setting(&self, name: &str, _: &str, _: bool) -> Result<String, PgError> {
        Err(PgError::internal(name))
    }
}

/// A column: name, type, NOT NULL.
type Column<'a> = (&'a str, PgType, bool);

fn index(oid: Oid, id: u16, name: &str, unique: bool, keys: &[(i16, PgType)]) -> IndexDesc {
    let column = |(attnum, ty): &(i16, PgType)| IndexColumn {
        attnum: Some(*attnum),
        expr: None,
        ty: *ty,
        desc: false,
        nulls_first: false,
    };
    IndexDesc {
        oid,
        index_id: id,
        name: name.to_owned(),
        unique,
        nulls_not_distinct: false,
        primary: id == 1,
        method: "btree".to_owned(),
        columns: keys.iter().map(column).collect(),
        include: vec![],
        predicate: None,
        state: IndexState::Public,
        comment: None,
    }
}

fn constraint(oid: Oid, name: &str, kind: ConstraintKind) -> ConstraintDesc {
    ConstraintDesc {
        oid,
        name: name.to_owned(),
        kind,
        deferrable: false,
        deferred: false,
        validated: true,
        comment: None,
    }
}

fn table(oid: Oid, schema: Oid, database: Oid, name: &str, columns: &[Column<'_>]) -> TableDesc {
    let column = |(i, (name, ty, not_null)): (usize, &Column<'_>)| ColumnDesc {
        attnum: i16::try_from(i + 1).unwrap(),
        name: (*name).to_owned(),
        ty: *ty,
        not_null: *not_null,
        default: None,
        generated: false,
        identity: None,
        sequence: None,
        missing: None,
        dropped: false,
        hidden: false,
        collation: None,
        comment: None,
    };
    TableDesc {
        oid,
        row_type: oid + 2,
        database,
        schema,
        name: name.to_owned(),
        owner: 10,
        storage_id: oid,
        schema_version: 1,
        columns_added: vec![1; columns.len()],
        columns: columns.iter().enumerate().map(column).collect(),
        indexes: vec![index(oid + 3, 1, &format!("{name}_pkey"), true, &[(1, columns[0].1)])],
        next_index_id: 2,
        constraints: vec![],
        temp_session: None,
        unlogged: false,
        options: vec![],
        comment: None,
        acl: vec![],
        row_estimate: None,
    }
}

fn tables(schema: Oid, database: Oid) -> Vec<TableDesc> {
    let int4 = PgType::new(oid::INT4);
    let text = PgType::new(oid::TEXT);
    let key = |name| (name, int4, true);
    let mut t =
        table(20000, schema, database, "t", &[key("id"), ("a", int4, false), ("b", text, false)]);
    t.indexes.push(index(20005, 2, "t_a_key", true, &[(2, int4)]));
    t.indexes.push(index(20006, 3, "t_b_idx", false, &[(3, text)]));
    let mut lower = index(20008, 4, "t_lower_idx", true, &[(3, text)]);
    lower.columns[0].attnum = None;
    lower.columns[0].expr = Some("lower(b)".to_owned());
    lower.predicate = Some("a > 1000".to_owned());
    t.indexes.push(lower);
    t.constraints.push(constraint(
        20007,
        "t_a_check",
        ConstraintKind::Check { expr: "a > 0".to_owned(), columns: vec![2], no_inherit: false },
    ));
    let mut child = table(20100, schema, database, "child", &[key("id"), ("tid", int4, false)]);
    child.constraints.push(constraint(
        20107,
        "child_tid_fkey",
        ConstraintKind::ForeignKey {
            columns: vec![2],
            ref_table: 20000,
            ref_columns: vec![1],
            ref_index_id: 1,
            on_delete: FkAction::NoAction,
            on_update: FkAction::Cascade,
            match_full: false,
        },
    ));
    let accounts = table(
        20200,
        schema,
        database,
        "accounts",
        &[
            ("aid", int4, true),
            ("bid", int4, false),
            ("abalance", int4, false),
            ("filler", PgType::with_typmod(oid::BPCHAR, 88), false),
        ],
    );
    let numbers = table(
        20300,
        schema,
        database,
        "numbers",
        &[
            key("id"),
            ("n", PgType::new(oid::NUMERIC), false),
            ("f", PgType::new(oid::FLOAT8), false),
            ("g", int4, false),
        ],
    );
    vec![t, child, accounts, numbers]
}

impl Fixture {
    pub(super) async fn new() -> Fixture {
        let store = Store::open(StoreConfig::default()).await.unwrap();
        let mut catalog = Catalog::initial();
        let database = catalog.database_by_name("postgres").unwrap().oid;
        let schema = catalog.schema_by_name(database, "public").unwrap().oid;
        for table in tables(schema, database) {
            let descriptor = Descriptor::Table(Arc::new(table));
            catalog.apply(&(descriptor.id(), Some(descriptor)));
        }
        let catalog = Arc::new(catalog);
        let node = Node::new(store, catalog.clone()).unwrap();
        Fixture { node, catalog, schema, deferred: Arc::default() }
    }

    pub(super) fn begin(&self) -> Txn {
        self.node.store().begin(TxnOptions::default())
    }

    pub(super) fn context(&self, params: &[Datum]) -> Arc<StatementContext> {
        Arc::new(StatementContext {
            eval: EvalContext::bare(),
            params: params.into(),
            node: self.node.clone(),
            catalog: self.catalog.clone(),
            memory_bytes: crate::STATEMENT_MEMORY_BYTES,
            cancel: CancelToken::new(),
            deferred: self.deferred.clone(),
            read_committed: true,
            session: Arc::new(Session),
            backend: 1,
        })
    }

    pub(super) fn bind(&self, sql: &str, params: &[PgType]) -> Result<Query, PgError> {
        let mut parsed = parse(sql)?;
        let Some(Statement::Query(query)) = parsed.pop().map(|p| p.statement) else {
            panic!("not a query: {sql}");
        };
        let view = View(&self.catalog, self.schema);
        let source = Source { text: sql.into(), visible: true };
        bind_query_statement(&view, &EvalContext::bare(), &source, &query, params, true)
    }

    /// Runs a statement by operators in a transaction; its rows as text.
    pub(super) async fn run(
        &self,
        sql: &str,
        params: &[Datum],
        txn: &mut Txn,
    ) -> Result<Vec<String>, PgError> {
        let query = Arc::new(self.bind(sql, &[])?);
        let prepared = Arc::new(Prepared::new(query));
        self.run_prepared(&prepared, params, txn).await
    }

    pub(super) async fn run_prepared(
        &self,
        prepared: &Arc<Prepared>,
        params: &[Datum],
        txn: &mut Txn,
    ) -> Result<Vec<String>, PgError> {
        loop {
            txn.begin_statement();
            match self.attempt(prepared, params, txn).await {
                Err(ExecError::StatementRetry) => {}
                Err(ExecError::Pg(e)) => return Err(e),
                Ok(rows) => return Ok(rows),
            }
        }
    }

    async fn attempt(
        &self,
        prepared: &Arc<Prepared>,
        params: &[Datum],
        txn: &mut Txn,
    ) -> Result<Vec<String>, ExecError> {
        let ctx = self.context(params);
        let mut cursor = Cursor::open(prepared, ctx.clone())?;
        let mut out = vec![];
        while let Some(batch) = cursor.next(txn, usize::MAX).await? {
            for row in datums(&batch, cursor.columns()) {
                let cells: Vec<String> = row
                    .iter()
                    .zip(cursor.columns())
                    .map(|(v, c)| match v {
                        Datum::Null => "·".to_owned(),
                        v => io::to_text(v, c.ty, &ctx.eval).unwrap(),
                    })
                    .collect();
                out.push(cells.join("|"));
            }
        }
        if cursor.columns().is_empty() {
            out.push(cursor.row_count().to_string());
        }
        Ok(out)
    }

    /// Runs a statement in a transaction of its own.
    pub(super) async fn exec(&self, sql: &str) -> Result<Vec<String>, PgError> {
        let mut txn = self.begin();
        let rows = self.run(sql, &[], &mut txn).await?;
        txn.commit().await.map_err(crate::from_kv)?;
        txn.release_locks();
        Ok(rows)
    }

    /// The rows of a statement that must succeed.
    pub(super) async fn rows(&self, sql: &str) -> Vec<String> {
        self.exec(sql).await.unwrap_or_else(|e| panic!("{sql}: {:?}", e.fields()))
    }

    /// Runs a statement by its key plan, which it must have; rows and bytes.
    pub(super) async fn key(
        &self,
        sql: &str,
        params: &[Datum],
        txn: &mut Txn,
    ) -> Result<(u64, Vec<u8>), ExecError> {
        let query = self.bind(sql, &[])?;
        let plan = KeyPlan::compile(&query, &self.catalog)
            .unwrap_or_else(|| panic!("no key plan for {sql}: {:?}", query.rel));
        txn.begin_statement();
        let mut out = vec![];
        let rows = plan.run(&self.context(params), txn, &[Format::Text], &mut out).await?;
        Ok((rows, out))
    }
}

/// Each query with the rows that PostgreSQL gives, `·` for NULL.
pub(super) async fn check(f: &Fixture, cases: &[(&str, &[&str])]) {
    let mut wrong = vec![];
    for (sql, expected) in cases {
        match f.exec(sql).await {
            Ok(rows) if rows == *expected => {}
            Ok(rows) => wrong.push(format!("{sql}\n  gave {rows:?}\n  not  {expected:?}")),
            Err(e) => wrong.push(format!("{sql}\n  {:?}", e.fields())),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
