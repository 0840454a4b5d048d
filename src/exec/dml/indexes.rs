//! Index expressions and predicates: SQL text of the descriptor, compiled over the row.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_catalog::{Catalog, IndexDesc, TableDesc};
use meridian_sql::bind::statement::bind_only;
use meridian_sql::expr::ColumnId;
use meridian_sql::parse::{Source, parse_query};
use meridian_sql::rel::Rel;
use meridian_types::{Datum, EvalContext, PgError, Result};

use crate::catalog_store::{SessionCatalog, SessionIdentity, quote_ident};
use crate::codecs::column;
use crate::expr::{Eval, Flat, compile};
use crate::shared::Cx;

/// What an index computes of a row; empty for an index of plain columns.
#[derive(Debug, Default)]
pub(crate) struct IndexExprs {
    /// One for each key column, `None` for a plain one.
    keys: Vec<Option<Eval>>,
    predicate: Option<Eval>,
}

impl IndexExprs {
    pub(crate) fn new(
        desc: &TableDesc,
        index: &IndexDesc,
        catalog: &Catalog,
    ) -> Result<IndexExprs> {
        let mut texts: Vec<&str> = index.columns.iter().filter_map(|c| c.expr.as_deref()).collect();
        texts.extend(index.predicate.as_deref());
        if texts.is_empty() {
            return Ok(IndexExprs::default());
        }
        let mut evals = bind(desc, &texts, catalog)?.into_iter();
        let keys =
            index.columns.iter().map(|c| c.expr.as_ref().and_then(|_| evals.next())).collect();
        Ok(IndexExprs { keys, predicate: evals.next() })
    }

    /// The values of the index's columns; `None` when the row is not in the index.
    pub(crate) fn values(
        &self,
        index: &IndexDesc,
        row: &[Datum],
        eval: &EvalContext,
    ) -> Result<Option<Vec<Datum>>> {
        let cx = Cx::bare(eval);
        if let Some(predicate) = &self.predicate
            && predicate.row(&row, &cx)? != Datum::Bool(true)
        {
            return Ok(None);
        }
        let mut out = Vec::with_capacity(index.columns.len());
        for (i, key) in index.columns.iter().enumerate() {
            out.push(match self.keys.get(i) {
                Some(Some(expr)) => expr.row(&row, &cx)?,
                _ => column(row, key.attnum.unwrap_or(0)).clone(),
            });
        }
        Ok(Some(out))
    }
}

/// Expressions over a table's row, by attnum − 1. Their names are qualified.
fn bind(desc: &TableDesc, texts: &[&str], catalog: &Catalog) -> Result<Vec<Eval>> {
    let schema = catalog.schema(desc.schema).map_or("", |s| s.name.as_str());
    let items: Vec<String> = texts.iter().map(|t| format!("({t})")).collect();
    let text = format!(
        "SELECT {} FROM {}.{}",
        items.join(", "),
        quote_ident(schema),
        quote_ident(&desc.name)
    );
    let identity = SessionIdentity {
        database: desc.database,
        database_name: "".into(),
        user: desc.owner,
        user_name: "".into(),
        session_user: desc.owner,
        search_path: Arc::from([schema.to_owned()]),
        backend: desc.temp_session.unwrap_or(0),
    };
    let view = SessionCatalog::new(Arc::new(catalog.clone()), Arc::new(identity));
    let query = parse_query(&text)?;
    let source = Source { text: text.into(), visible: false };
    let query = bind_only(&view, &EvalContext::bare(), &source, &query, &[], false)?;
    let unsupported = || PgError::unsupported("this index expression is not supported yet");
    let Rel::Project { input, exprs } = &query.rel else { return Err(unsupported()) };
    let Rel::Scan { columns, .. } = &**input else { return Err(unsupported()) };
    let map: HashMap<ColumnId, usize> = columns
        .iter()
        .filter_map(|(c, attnum)| Some((c.id, usize::try_from(*attnum - 1).ok()?)))
        .collect();
    let mut out = vec![];
    for column in &query.output {
        let found = exprs.iter().find(|(c, _)| c.id == column.id).ok_or_else(unsupported)?;
        out.push(compile(&found.1, &mut Flat(&map))?);
    }
    Ok(out)
}
