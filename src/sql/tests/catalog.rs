//! A catalog in memory, made from DDL text.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_catalog::{
    ColumnDesc, ConstraintDesc, ConstraintKind, IndexColumn, IndexDesc, IndexState, Relation,
    TableDesc, ViewDesc, VirtualDesc,
};
use meridian_types::oid::{self, Oid};
use meridian_types::{EvalContext, PgError, PgType, Result, SqlState};

use crate::bind::{Binder, CatalogView};
use crate::ddl::AsQuery;
use crate::ddl::{
    ColumnDef, Constraint, ConstraintRule, CreateIndex, CreateTable, CreateView, Ddl, TableElement,
};
use crate::parse::{self, Source, Statement};

/// The catalog.
#[derive(Default)]
pub(crate) struct TestCatalog {
    relations: BTreeMap<String, Relation>,
    next_oid: Oid,
}

impl CatalogView for TestCatalog {
    fn relation(&self, schema: Option<&str>, name: &str) -> Option<Relation> {
        let in_schema = matches!(schema, None | Some("public" | "pg_temp"))
            || (schema == Some("pg_catalog") && name.starts_with("pg_"));
        in_schema.then(|| self.relations.get(name).cloned())?
    }

    fn relation_by_oid(&self, oid: Oid) -> Option<Relation> {
        self.relations.values().find(|r| ids(r).0 == oid).cloned()
    }

    fn relation_by_row_type(&self, oid: Oid) -> Option<Relation> {
        self.relations.values().find(|r| ids(r).1 == oid && oid != 0).cloned()
    }

    fn schema_oid(&self, name: &str) -> Option<Oid> {
        match name {
            "public" => Some(2200),
            "pg_catalog" => Some(11),
            _ => None,
        }
    }

    fn schema_name(&self, oid: Oid) -> Option<Arc<str>> {
        match oid {
            2200 => Some("public".into()),
            11 => Some("pg_catalog".into()),
            _ => None,
        }
    }

    fn type_by_name(&self, _: Option<&str>, name: &str) -> Option<Oid> {
        self.relations.get(name).map(|r| ids(r).1)
    }

    fn type_name(&self, oid: Oid) -> Option<Arc<str>> {
        self.relations.iter().find(|(_, r)| ids(r).1 == oid).map(|(n, _)| Arc::from(n.as_str()))
    }

    fn database(&self) -> &str {
        "regression"
    }

    fn user(&self) -> &str {
        "tester"
    }
}

/// (oid, row type)
fn ids(r: &Relation) -> (Oid, Oid) {
    match r {
        Relation::Table(t) => (t.oid, t.row_type),
        Relation::View(v) => (v.oid, v.row_type),
        Relation::Virtual(v) => (v.oid, v.row_type),
        Relation::Sequence(s) => (s.oid, 0),
        Relation::Index(..) => (0, 0),
    }
}

impl TestCatalog {
    /// A catalog after this DDL.
    pub(crate) fn of(ddl: &str) -> TestCatalog {
        let mut catalog = TestCatalog { next_oid: 16384, ..TestCatalog::default() };
        let class = VirtualDesc {
            oid: 1259,
            row_type: 83,
            schema: 11,
            name: "pg_class",
            columns: vec![
                ("oid", PgType::new(oid::OID)),
                ("relname", PgType::new(oid::NAME)),
                ("relnamespace", PgType::new(oid::OID)),
                ("relkind", PgType::new(oid::CHAR)),
            ],
        };
        catalog.relations.insert("pg_class".into(), Relation::Virtual(Arc::new(class)));
        for parsed in parse::parse(ddl).expect("the DDL of a test parses") {
            let Statement::Ddl(statement) = &parsed.statement else { panic!("not DDL") };
            catalog.define(statement, ddl).expect("the DDL of a test is right");
        }
        catalog
    }

    /// Sets the row estimate of a table.
    pub(crate) fn analyse(mut self, table: &str, rows: f64) -> TestCatalog {
        if let Some(Relation::Table(t)) = self.relations.get_mut(table) {
            Arc::make_mut(t).row_estimate = Some(rows);
        }
        self
    }

    fn oid(&mut self) -> Oid {
        self.next_oid += 1;
        self.next_oid
    }

    /// Carries out a definition that stands in `text`.
    pub(crate) fn define(&mut self, statement: &Ddl, text: &str) -> Result<()> {
        match statement {
            Ddl::CreateTable(create) => self.create_table(create, text),
            Ddl::CreateTableAs(create) => {
                let mut table = self.empty_table(&create.name.name);
                let eval = EvalContext::bare();
                let source = Source::default();
                let AsQuery::Query(query) = &create.query else {
                    return Err(PgError::unsupported("EXECUTE is not part of the test catalog"));
                };
                let bound = Binder::new(self, &eval, &source, &[], false).bind_query(query)?;
                for (i, c) in bound.columns.iter().enumerate() {
                    let given = create.columns.get(i).map_or(&*c.name, String::as_str);
                    add_column(&mut table, given, c.ty);
                }
                self.finish(table)
            }
            Ddl::CreateIndex(create) => self.create_index(create, text),
            Ddl::CreateView(create) => self.create_view(create, text),
            Ddl::Drop { names, .. } => {
                for n in names {
                    self.relations.remove(&n.name);
                }
                Ok(())
            }
            _ => Err(PgError::unsupported("this DDL is not part of the test catalog")),
        }
    }

    fn create_table(&mut self, create: &CreateTable, text: &str) -> Result<()> {
        let name = &create.name.name;
        if self.relations.contains_key(name) {
            let text = format!("relation \"{name}\" already exists");
            return Err(PgError::new(SqlState::DUPLICATE_TABLE, text));
        }
        let mut table = self.empty_table(name);
        for element in &create.elements {
            if let TableElement::Column(c) = element {
                self.column(&mut table, c, text)?;
            }
        }
        for element in &create.elements {
            match element {
                TableElement::Column(c) => {
                    for constraint in &c.constraints {
                        self.constraint(&mut table, constraint, Some(&c.name), text);
                    }
                }
                TableElement::Constraint(c) => self.constraint(&mut table, c, None, text),
                TableElement::Like(..) => {}
            }
        }
        self.finish(table)
    }

    fn constraint(&mut self, table: &mut TableDesc, c: &Constraint, of: Option<&str>, text: &str) {
        let given = |columns: &[String]| match of {
            Some(column) if columns.is_empty() => vec![column.to_owned()],
            _ => columns.to_vec(),
        };
        match &c.kind {
            ConstraintRule::PrimaryKey { columns, .. } => {
                add_key(table, &given(columns), true, c.name.clone(), 0);
            }
            ConstraintRule::Unique { columns, .. } => {
                let oid = self.oid();
                add_key(table, &given(columns), false, c.name.clone(), oid);
            }
            ConstraintRule::Check { expr, .. } => {
                let default = format!("{}_check", table.name);
                let name = c.name.clone().unwrap_or(default);
                table.constraints.push(ConstraintDesc {
                    oid: 0,
                    name,
                    kind: ConstraintKind::Check {
                        expr: expr.text.of(text),
                        columns: vec![],
                        no_inherit: false,
                    },
                    deferrable: false,
                    deferred: false,
                    validated: true,
                    comment: None,
                });
            }
            ConstraintRule::ForeignKey { .. } => {}
        }
    }

    fn empty_table(&mut self, name: &str) -> TableDesc {
        TableDesc {
            oid: self.oid(),
            row_type: self.oid(),
            database: 1,
            schema: 2200,
            name: name.to_owned(),
            owner: 10,
            storage_id: self.next_oid,
            schema_version: 1,
            columns_added: vec![],
            columns: vec![],
            indexes: vec![],
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

    /// A table without a primary key has a hidden row id.
    fn finish(&mut self, mut table: TableDesc) -> Result<()> {
        if !table.indexes.iter().any(|i| i.index_id == 1) {
            add_column(&mut table, "rowid", PgType::new(oid::INT8));
            let column = table.columns.last_mut().expect("it was added");
            (column.hidden, column.not_null) = (true, true);
            let attnum = column.attnum;
            let index = index("rowid".into(), 1, 0, true, &[attnum], &table);
            table.indexes.insert(0, index);
        }
        self.relations.insert(table.name.clone(), Relation::Table(Arc::new(table)));
        Ok(())
    }

    fn column(&mut self, table: &mut TableDesc, c: &ColumnDef, text: &str) -> Result<()> {
        let word = c.data_type.to_string().to_lowercase();
        let serial = match word.as_str() {
            "serial" | "serial4" => Some(oid::INT4),
            "bigserial" | "serial8" => Some(oid::INT8),
            _ => None,
        };
        let ty = match serial {
            Some(t) => PgType::new(t),
            None => {
                let eval = EvalContext::bare();
                let source = Source::default();
                Binder::new(self, &eval, &source, &[], false).resolve_type(&c.data_type)?
            }
        };
        add_column(table, &c.name, ty);
        let sequence = self.oid();
        let column = table.columns.last_mut().expect("it was added");
        column.not_null = c.not_null == Some(true) || serial.is_some() || c.identity.is_some();
        column.default = c.default.as_ref().map(|d| d.text.of(text));
        if serial.is_some() {
            column.default = Some("nextval(5::oid::regclass)".to_owned());
        }
        if let Some(e) = &c.generated {
            (column.generated, column.default) = (true, Some(e.text.of(text)));
        }
        if let Some((kind, _)) = &c.identity {
            (column.identity, column.sequence) = (Some(*kind), Some(sequence));
        }
        Ok(())
    }

    fn create_index(&mut self, create: &CreateIndex, text: &str) -> Result<()> {
        let name = create.name.clone().unwrap_or_else(|| "idx".into());
        let oid = self.oid();
        let Some(Relation::Table(table)) = self.relations.get_mut(&create.table.name) else {
            return Err(PgError::new(SqlState::UNDEFINED_TABLE, "no such table"));
        };
        let table = Arc::make_mut(table);
        let id = table.next_index_id;
        table.next_index_id += 1;
        let mut made = index(name, id, oid, create.unique, &[], table);
        for c in &create.columns {
            let mut column = IndexColumn {
                attnum: None,
                expr: c.expr.as_ref().map(|e| e.text.of(text)),
                ty: PgType::new(oid::TEXT),
                desc: c.desc,
                nulls_first: c.nulls_first.unwrap_or(c.desc),
            };
            if let Some(name) = &c.column {
                let found = table.columns.iter().find(|c| c.name == *name);
                let found = found.ok_or_else(|| PgError::internal("no such column"))?;
                (column.attnum, column.ty) = (Some(found.attnum), found.ty);
            }
            made.columns.push(column);
        }
        made.predicate = create.predicate.as_ref().map(|e| e.text.of(text));
        table.indexes.push(made);
        Ok(())
    }

    fn create_view(&mut self, create: &CreateView, text: &str) -> Result<()> {
        let eval = EvalContext::bare();
        let source = Source::default();
        let bound = Binder::new(self, &eval, &source, &[], false).bind_query(&create.query)?;
        let named = bound.columns.iter().enumerate().map(|(i, c)| {
            (create.columns.get(i).cloned().unwrap_or_else(|| c.name.to_string()), c.ty)
        });
        let view = ViewDesc {
            oid: self.oid(),
            row_type: self.oid(),
            database: 1,
            schema: 2200,
            name: create.name.name.clone(),
            owner: 10,
            columns: named.collect(),
            query: create.text.of(text),
            check_option: create.check_option,
            depends_on: vec![],
            temp_session: None,
            acl: vec![],
            comment: None,
        };
        self.relations.insert(create.name.name.clone(), Relation::View(Arc::new(view)));
        Ok(())
    }
}

fn add_column(table: &mut TableDesc, name: &str, ty: PgType) {
    let attnum = i16::try_from(table.columns.len() + 1).expect("few columns");
    table.columns_added.push(1);
    table.columns.push(ColumnDesc {
        attnum,
        name: name.to_owned(),
        ty,
        not_null: false,
        default: None,
        generated: false,
        identity: None,
        sequence: None,
        missing: None,
        dropped: false,
        hidden: false,
        collation: None,
        comment: None,
    });
}

fn index(
    name: String,
    index_id: u16,
    oid: Oid,
    unique: bool,
    attnums: &[i16],
    table: &TableDesc,
) -> IndexDesc {
    let column = |a: &i16| IndexColumn {
        attnum: Some(*a),
        expr: None,
        ty: table.columns.iter().find(|c| c.attnum == *a).expect("it is there").ty,
        desc: false,
        nulls_first: false,
    };
    IndexDesc {
        oid,
        index_id,
        name,
        unique,
        nulls_not_distinct: false,
        primary: false,
        method: "btree".into(),
        columns: attnums.iter().map(column).collect(),
        include: vec![],
        predicate: None,
        state: IndexState::Public,
        comment: None,
    }
}

fn add_key(
    table: &mut TableDesc,
    names: &[String],
    primary: bool,
    given: Option<String>,
    oid: Oid,
) {
    let attnums: Vec<i16> = names
        .iter()
        .map(|n| table.columns.iter().find(|c| c.name == *n).expect("a column of the table").attnum)
        .collect();
    let default = if primary {
        format!("{}_pkey", table.name)
    } else {
        format!("{}_{}_key", table.name, names.join("_"))
    };
    let name = given.unwrap_or(default);
    let index_id = if primary { 1 } else { table.next_index_id };
    let oid = if primary { table.oid + 100_000 } else { oid };
    let mut made = index(name.clone(), index_id, oid, true, &attnums, table);
    made.primary = primary;
    let kind = if primary {
        table
            .columns
            .iter_mut()
            .filter(|c| attnums.contains(&c.attnum))
            .for_each(|c| c.not_null = true);
        table.indexes.insert(0, made);
        ConstraintKind::PrimaryKey { index_id }
    } else {
        table.next_index_id += 1;
        table.indexes.push(made);
        ConstraintKind::Unique { index_id }
    };
    table.constraints.push(ConstraintDesc {
        oid: oid + 1,
        name,
        kind,
        deferrable: false,
        deferred: false,
        validated: true,
        comment: None,
    });
}
