//! CREATE TABLE.

use std::sync::Arc;

use meridian_catalog::{
    ColumnDesc, Descriptor, Identity, IndexColumn, IndexDesc, IndexState, PRIMARY_INDEX_ID,
    Relation, TableDesc,
};
use meridian_sql::bind::Clause;
use meridian_sql::ddl::{
    ColumnDef, Constraint, ConstraintRule, CreateTable, LikeOptions, Name, OnCommit,
    SequenceOptions, SqlExpr, TableElement,
};
use meridian_sql::resolve::CoercionContext;
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::DdlContext;
use super::expressions;
use super::names::choose_name;
use super::types::serial_type;

/// Most columns of a table, as in PostgreSQL.
const COLUMNS_MAX: usize = 1600;

/// A sequence that has to be made with a column.
pub(crate) struct OwnedSequence {
    /// Attnum of the column.
    pub(crate) attnum: i16,
    pub(crate) oid: Oid,
    pub(crate) ty: Oid,
    pub(crate) options: SequenceOptions,
}

/// A table without columns.
pub(crate) fn empty_table(
    oid: Oid,
    database: Oid,
    schema: Oid,
    name: &str,
    owner: Oid,
) -> TableDesc {
    TableDesc {
        oid,
        row_type: oid + 2,
        database,
        schema,
        name: name.to_owned(),
        owner,
        storage_id: oid,
        schema_version: 1,
        columns_added: Vec::new(),
        columns: Vec::new(),
        indexes: Vec::new(),
        next_index_id: PRIMARY_INDEX_ID + 1,
        constraints: Vec::new(),
        temp_session: None,
        unlogged: false,
        options: Vec::new(),
        comment: None,
        acl: Vec::new(),
        row_estimate: None,
    }
}

/// A column with nothing but name and type.
pub(crate) fn plain_column(attnum: i16, name: &str, ty: PgType) -> ColumnDesc {
    ColumnDesc {
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
    }
}

/// Gives a table without a primary key its hidden one: a row id.
pub(crate) fn add_hidden_key(table: &mut TableDesc) {
    let attnum = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
    let ty = PgType::new(oid::INT8);
    let mut column = plain_column(attnum, "rowid", ty);
    column.hidden = true;
    column.not_null = true;
    table.columns.push(column);
    table.columns_added.push(table.schema_version);
    let key = IndexColumn { attnum: Some(attnum), expr: None, ty, desc: false, nulls_first: false };
    let index = IndexDesc {
        oid: 0,
        index_id: PRIMARY_INDEX_ID,
        name: String::new(),
        unique: true,
        nulls_not_distinct: false,
        primary: false,
        method: "btree".into(),
        columns: vec![key],
        include: Vec::new(),
        predicate: None,
        state: IndexState::Public,
        comment: None,
    };
    match table.indexes.first_mut() {
        Some(first) if first.index_id == PRIMARY_INDEX_ID => *first = index,
        _ => table.indexes.insert(0, index),
    }
}

impl DdlContext<'_> {
    pub(super) async fn create_table(&mut self, create: &CreateTable) -> Result<&'static str> {
        if create.on_commit != OnCommit::Preserve {
            return Err(PgError::unsupported(
                "ON COMMIT DELETE ROWS and DROP are not supported yet",
            ));
        }
        let schema = self.creation_schema(&create.name, create.temp).await?;
        if !self.claim_name(schema, &create.name.name, create.if_not_exists).await? {
            return Ok("CREATE TABLE");
        }
        let oid = self.oids(3).await?;
        let (database, user) = (self.identity.database, self.identity.user);
        let mut table = empty_table(oid, database, schema, &create.name.name, user);
        table.temp_session = self.temp_session(schema);
        table.unlogged = create.unlogged;
        crate::zones::check(&create.options)?;
        table.options.clone_from(&create.options);
        let mut sequences = Vec::new();
        let mut constraints: Vec<Constraint> = Vec::new();
        let mut indexes = Vec::new();
        for element in &create.elements {
            match element {
                TableElement::Column(def) => {
                    constraints.extend(def.constraints.iter().cloned());
                    self.add_column(&mut table, def, &mut sequences).await?;
                }
                TableElement::Constraint(constraint) => constraints.push(constraint.clone()),
                TableElement::Like(name, options) => {
                    indexes.extend(self.like(&mut table, name, options, &mut sequences).await?);
                }
            }
        }
        // Expressions may name columns that come later.
        for element in &create.elements {
            if let TableElement::Column(def) = element {
                self.column_expressions(&mut table, def)?;
            }
        }
        self.add_all(&mut table, &constraints).await?;
        for mut index in indexes {
            index.oid = self.oids(1).await?;
            index.index_id = table.next_index_id;
            table.next_index_id += 1;
            table.indexes.push(index);
        }
        let table = self.put_table(table);
        self.make_sequences(&table, sequences)?;
        Ok("CREATE TABLE")
    }

    /// Constraints in PostgreSQL's order of names and oids: keys, checks, then foreign keys.
    async fn add_all(&mut self, table: &mut TableDesc, constraints: &[Constraint]) -> Result<()> {
        let rank = |c: &&Constraint| match c.kind {
            ConstraintRule::Check { .. } => 0,
            ConstraintRule::PrimaryKey { .. } => 1,
            ConstraintRule::Unique { .. } => 2,
            ConstraintRule::ForeignKey { .. } => 3,
        };
        let mut sorted: Vec<&Constraint> = constraints.iter().collect();
        sorted.sort_by_key(rank);
        let mut keyed = false;
        for constraint in sorted {
            if rank(&constraint) > 1 && !keyed && table.indexes.is_empty() {
                add_hidden_key(table);
                keyed = true;
            }
            self.add_constraint(table, constraint, true).await?;
        }
        if table.indexes.is_empty() {
            add_hidden_key(table);
        }
        Ok(())
    }

    /// Adds a column without its expressions; a serial or identity column's sequence is noted.
    pub(crate) async fn add_column(
        &mut self,
        table: &mut TableDesc,
        def: &ColumnDef,
        sequences: &mut Vec<OwnedSequence>,
    ) -> Result<()> {
        if table.columns.iter().any(|c| !c.dropped && !c.hidden && c.name == def.name) {
            let text = format!("column \"{}\" specified more than once", def.name);
            return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text));
        }
        if matches!(def.name.as_str(), "tableoid" | "ctid" | "xmin" | "cmin" | "xmax" | "cmax") {
            let text = format!("column name \"{}\" conflicts with a system column name", def.name);
            return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text));
        }
        if table.columns.len() >= COLUMNS_MAX {
            let text = format!("tables can have at most {COLUMNS_MAX} columns");
            return Err(PgError::new(SqlState::TOO_MANY_COLUMNS, text));
        }
        let serial = serial_type(&def.data_type);
        let ty = match serial {
            Some(ty) => PgType::new(ty),
            None => self.column_type(&def.name, &def.data_type)?,
        };
        let attnum = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
        let mut column = plain_column(attnum, &def.name, ty);
        column.not_null = def.not_null == Some(true);
        column.collation.clone_from(&def.collation);
        if serial.is_some() || def.identity.is_some() {
            let conflicting = |text: &str| {
                let text = format!(
                    "{text} specified for column \"{}\" of table \"{}\"",
                    def.name, table.name
                );
                PgError::new(SqlState::SYNTAX_ERROR, text)
            };
            if def.default.is_some() {
                return Err(match &def.identity {
                    Some(_) => conflicting("both default and identity"),
                    None => conflicting("multiple default values"),
                });
            }
            if def.not_null == Some(false) {
                return Err(conflicting("conflicting NULL/NOT NULL declarations"));
            }
            let sequence = self.oids(1).await?;
            column.not_null = true;
            column.sequence = Some(sequence);
            let options = match &def.identity {
                Some((identity, options)) => {
                    if !matches!(ty.oid, oid::INT2 | oid::INT4 | oid::INT8) {
                        return Err(PgError::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            "identity column type must be smallint, integer, or bigint",
                        ));
                    }
                    column.identity = Some(*identity);
                    options.clone()
                }
                None => SequenceOptions::default(),
            };
            column.default = Some(next_value(sequence));
            sequences.push(OwnedSequence { attnum, oid: sequence, ty: ty.oid, options });
        }
        table.columns.push(column);
        table.columns_added.push(table.schema_version);
        Ok(())
    }

    /// Binds and stores a column's DEFAULT or generation expression.
    pub(crate) fn column_expressions(&self, table: &mut TableDesc, def: &ColumnDef) -> Result<()> {
        let Some(at) = table.columns.iter().position(|c| c.name == def.name && !c.dropped) else {
            return Ok(());
        };
        if let Some(default) = &def.default {
            let text = self.default_text(&table.columns[at], default)?;
            table.columns[at].default = Some(text);
        }
        if let Some(generated) = &def.generated {
            if def.default.is_some() {
                let text = format!(
                    "both default and generation expression specified for column \"{}\" of table \
                     \"{}\"",
                    def.name, table.name
                );
                return Err(PgError::new(SqlState::SYNTAX_ERROR, text));
            }
            let ty = table.columns[at].ty;
            let bound = self.bind_shown(table, generated, |b, e| {
                let position = b.position(e);
                let expr = b.bind_expr(e, Clause::GeneratedColumn)?;
                if meridian_sql::walk::is_volatile(&expr) {
                    return Err(PgError::new(
                        SqlState::INVALID_OBJECT_DEFINITION,
                        "generation expression is not immutable",
                    ));
                }
                let shown = expressions::uncoerced(b, &expr, ty);
                Ok((b.coerce_to(expr, ty, CoercionContext::Assignment, position)?, shown))
            })?;
            let other = bound.attnums.iter().filter_map(|a| table.column(*a)).find(|c| c.generated);
            if let Some(other) = other {
                let text = format!(
                    "cannot use generated column \"{}\" in column generation expression",
                    other.name
                );
                return Err(PgError::new(SqlState::INVALID_OBJECT_DEFINITION, text)
                    .detail("A generated column cannot reference another generated column."));
            }
            table.columns[at].default = Some(bound.text);
            table.columns[at].generated = true;
        }
        Ok(())
    }

    /// Binds a DEFAULT; the answer is its text.
    pub(crate) fn default_text(&self, column: &ColumnDesc, default: &SqlExpr) -> Result<String> {
        let empty = empty_table(0, 0, 0, "", 0);
        let ty = column.ty;
        let bound = self.bind_shown(&empty, default, |b, e| {
            let position = b.position(e);
            let expr = b.bind_expr(e, Clause::ColumnDefault)?;
            let from = expr.ty;
            let shown = expressions::uncoerced(b, &expr, ty);
            let coerced = b.coerce_to(expr, ty, CoercionContext::Assignment, position);
            let coerced = coerced.map_err(|error| {
                if !matches!(error.state(), SqlState::CANNOT_COERCE | SqlState::DATATYPE_MISMATCH) {
                    return error;
                }
                let view = self.view();
                let text = format!(
                    "column \"{}\" is of type {} but default expression is of type {}",
                    column.name,
                    view.format_type(ty.oid, -1),
                    view.format_type(from.oid, -1)
                );
                PgError::new(SqlState::DATATYPE_MISMATCH, text)
                    .hint("You will need to rewrite or cast the expression.")
            })?;
            Ok((coerced, shown))
        })?;
        Ok(bound.text)
    }

    /// Makes the sequences of a table's serial and identity columns.
    pub(crate) fn make_sequences(
        &mut self,
        table: &Arc<TableDesc>,
        sequences: Vec<OwnedSequence>,
    ) -> Result<()> {
        for owned in sequences {
            let column = table
                .column(owned.attnum)
                .ok_or_else(|| PgError::internal("a sequence without its column"))?;
            let (schema, name) = match &owned.options.name {
                Some(name) => (table.schema, name.name.clone()),
                None => (
                    table.schema,
                    choose_name(&table.name, &column.name, "seq", |n| {
                        self.catalog().relation_in(table.schema, n).is_some()
                    }),
                ),
            };
            let mut desc =
                super::sequence::describe(&owned.options, PgType::new(owned.ty), None, &|d| {
                    super::types::resolve_type(&self.view(), d)
                })?;
            desc.oid = owned.oid;
            desc.storage_id = owned.oid;
            desc.database = table.database;
            desc.schema = schema;
            desc.name = name;
            desc.owner = table.owner;
            desc.owned_by = Some((table.oid, owned.attnum));
            desc.temp_session = table.temp_session;
            self.overlay.put(Descriptor::Sequence(desc.into()));
        }
        Ok(())
    }

    /// LIKE: columns of another table, and its indexes to be made.
    async fn like(
        &mut self,
        table: &mut TableDesc,
        name: &Name,
        options: &LikeOptions,
        sequences: &mut Vec<OwnedSequence>,
    ) -> Result<Vec<IndexDesc>> {
        let other = match self.relation(name)? {
            Relation::Table(other) => other,
            Relation::View(view) => {
                for (column, ty) in &view.columns {
                    let attnum = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
                    table.columns.push(plain_column(attnum, column, *ty));
                    table.columns_added.push(table.schema_version);
                }
                return Ok(vec![]);
            }
            _ => {
                let text = format!("relation \"{}\" is invalid in LIKE clause", name.name);
                return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
            }
        };
        let mut map = vec![0_i16; other.columns.len() + 1];
        for column in other.visible_columns() {
            if table.columns.iter().any(|c| c.name == column.name) {
                let text = format!("column \"{}\" specified more than once", column.name);
                return Err(PgError::new(SqlState::DUPLICATE_COLUMN, text));
            }
            let attnum = i16::try_from(table.columns.len() + 1).unwrap_or(i16::MAX);
            map[usize::try_from(column.attnum).unwrap_or(0)] = attnum;
            let mut copy = plain_column(attnum, &column.name, column.ty);
            copy.not_null = column.not_null;
            copy.collation.clone_from(&column.collation);
            if options.comments {
                copy.comment.clone_from(&column.comment);
            }
            if column.generated {
                if options.generated {
                    copy.generated = true;
                    copy.default.clone_from(&column.default);
                }
            } else if let Some(identity) = column.identity {
                if options.identity {
                    self.like_identity(&mut copy, identity, sequences).await?;
                }
            } else if options.defaults {
                copy.default.clone_from(&column.default);
            }
            table.columns.push(copy);
            table.columns_added.push(table.schema_version);
        }
        if options.constraints {
            for constraint in &other.constraints {
                if let meridian_catalog::ConstraintKind::Check { expr, columns, no_inherit } =
                    &constraint.kind
                {
                    let mut copy = constraint.clone();
                    copy.oid = self.oids(1).await?;
                    copy.kind = meridian_catalog::ConstraintKind::Check {
                        expr: expr.clone(),
                        columns: columns
                            .iter()
                            .map(|a| map[usize::try_from(*a).unwrap_or(0)])
                            .collect(),
                        no_inherit: *no_inherit,
                    };
                    table.constraints.push(copy);
                }
            }
        }
        if !options.indexes {
            return Ok(vec![]);
        }
        self.like_indexes(table, &other, &map).await
    }

    async fn like_identity(
        &mut self,
        copy: &mut ColumnDesc,
        identity: Identity,
        sequences: &mut Vec<OwnedSequence>,
    ) -> Result<()> {
        let sequence = self.oids(1).await?;
        copy.identity = Some(identity);
        copy.sequence = Some(sequence);
        copy.default = Some(next_value(sequence));
        let options = SequenceOptions::default();
        let (attnum, ty) = (copy.attnum, copy.ty.oid);
        sequences.push(OwnedSequence { attnum, oid: sequence, ty, options });
        Ok(())
    }

    async fn like_indexes(
        &mut self,
        table: &mut TableDesc,
        other: &TableDesc,
        map: &[i16],
    ) -> Result<Vec<IndexDesc>> {
        let name_of = |attnum: i16| other.column(attnum).map(|c| c.name.clone());
        let mut plain = Vec::new();
        for index in other.indexes.iter().filter(|i| i.oid != 0) {
            let columns: Vec<String> =
                index.columns.iter().filter_map(|c| name_of(c.attnum?)).collect();
            let include = index.include.iter().filter_map(|a| name_of(*a)).collect();
            let unique = other.constraints.iter().any(|c| {
                matches!(c.kind, meridian_catalog::ConstraintKind::Unique { index_id }
                    if index_id == index.index_id)
            });
            let kind = if index.primary {
                ConstraintRule::PrimaryKey { columns, include, using_index: None }
            } else if unique {
                let nulls_not_distinct = index.nulls_not_distinct;
                ConstraintRule::Unique { columns, include, nulls_not_distinct, using_index: None }
            } else {
                let mut copy = index.clone();
                for column in &mut copy.columns {
                    column.attnum = column.attnum.map(|a| map[usize::try_from(a).unwrap_or(0)]);
                }
                for attnum in &mut copy.include {
                    *attnum = map[usize::try_from(*attnum).unwrap_or(0)];
                }
                let parts = copy.columns.iter().map(|c| {
                    c.attnum.and_then(|a| table.column(a)).map_or("expr", |c| c.name.as_str())
                });
                let part = super::names::columns_part(parts);
                let schema = table.schema;
                copy.name =
                    choose_name(&table.name, &part, "idx", |n| self.name_taken(schema, table, n));
                plain.push(copy);
                continue;
            };
            if table.indexes.is_empty() && !index.primary {
                add_hidden_key(table);
            }
            let constraint = Constraint {
                name: None,
                kind,
                deferrable: false,
                deferred: false,
                not_valid: false,
            };
            self.add_constraint(table, &constraint, true).await?;
        }
        Ok(plain)
    }
}

/// The default of a column with a sequence. The oid stands for the name, which may change.
pub(crate) fn next_value(sequence: Oid) -> String {
    format!("nextval('{sequence}'::regclass)")
}
