//! The functions that ask the catalog or the session: [`Host`] over a snapshot.
//!
//! A function arrives by the name of its kernel (`prosrc`, or the signature of one written in SQL).
//! Families are spread over files; each answers `None` for names that aren't its own.

mod describe;
mod names;
mod privilege;
mod sequences;
mod size;
mod state;

use std::future::Future;
use std::sync::Arc;

use meridian_catalog::{Relation, TableDesc};
use meridian_types::context::{CallInfoOwned, Host};
use meridian_types::oid::{self, Oid};
use meridian_types::{Datum, EvalContext, PgError, Result, builtin};

use super::session::SessionInfo;
use crate::catalog_store::SessionCatalog;
use crate::context::Node;

/// A session's catalog functions over one snapshot.
#[derive(Clone, Debug)]
pub struct CatalogHost {
    /// The snapshot with the session's names.
    pub view: Arc<SessionCatalog>,
    /// The node.
    pub node: Arc<Node>,
    /// The session.
    pub session: Arc<dyn SessionInfo>,
}

/// Waits for a future inside a kernel, which is a plain function. Most are ready at once; for the
/// others this worker thread's further tasks are moved away first.
pub(crate) fn block<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
        return done;
    }
    match tokio::runtime::Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(future))
        }
        _ => Err(PgError::internal("a sequence was used outside of the server's threads")),
    }
}

impl CatalogHost {
    /// A stored expression as PostgreSQL shows it.
    pub(crate) fn expression(&self, table: Option<&TableDesc>, text: &str, pretty: bool) -> String {
        let source = ExpressionSource { view: &self.view, host: Some(self) };
        source.shown(table, text, pretty)
    }
}

/// What stored expressions are shown with.
pub(crate) struct ExpressionSource<'a> {
    pub(crate) view: &'a SessionCatalog,
    /// For names of other objects than relations, and for the pretty form.
    pub(crate) host: Option<&'a CatalogHost>,
}

impl ExpressionSource<'_> {
    /// The expression with names in place of oids.
    pub(crate) fn shown(&self, table: Option<&TableDesc>, text: &str, pretty: bool) -> String {
        let named = self.with_names(text);
        let Some((host, table)) = self.host.zip(table).filter(|_| pretty) else { return named };
        let eval = EvalContext { host: Arc::new(host.clone()), ..EvalContext::bare() };
        crate::ddl::expressions::pretty(self.view, table, &eval, &named).unwrap_or(named)
    }

    /// `'16385'::regclass` becomes `'t_a_seq'::regclass`.
    fn with_names(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("'::reg") {
            let (head, tail) = rest.split_at(at);
            let digits = head.rfind('\'').map_or("", |open| &head[open + 1..]);
            let word = tail[3..].split(|c: char| !c.is_ascii_alphanumeric()).next();
            let ty = word.and_then(builtin::type_by_name).map_or(0, |t| t.oid);
            match digits.parse::<Oid>().ok().and_then(|value| self.name_of(ty, value)) {
                Some(name) => {
                    out.push_str(&head[..head.len() - digits.len()]);
                    out.push_str(&name.replace('\'', "''"));
                }
                None => out.push_str(head),
            }
            out.push_str("'::reg");
            rest = &tail[6..];
        }
        out.push_str(rest);
        out
    }

    fn name_of(&self, ty: Oid, value: Oid) -> Option<String> {
        match (ty, self.host) {
            (oid::REGCLASS, _) => {
                self.view.catalog.relation(value).map(|r| self.view.relation_name(&r))
            }
            (_, Some(host)) => Some(host.write_reg(ty, value)),
            (oid::REGTYPE, None) => Some(self.view.format_type(value, -1)),
            _ => None,
        }
    }
}

impl CatalogHost {
    pub(crate) fn relation(&self, oid: Oid) -> Option<Relation> {
        self.view.catalog.relation(oid)
    }

    /// The user's relation of a name as text: `a`, `"B".c`.
    pub(crate) fn relation_by_text(&self, text: &str) -> Option<Relation> {
        let parts = names::split_name(text)?;
        let (schema, name) = match &parts[..] {
            [name] => (None, name),
            [.., schema, name] => (Some(schema.as_str()), name),
            [] => return None,
        };
        self.view.catalog.lookup(&self.view.path, schema, name)
    }
}

/// An argument as oid.
pub(crate) fn oid_arg(args: &[Datum], at: usize) -> Oid {
    match args.get(at) {
        Some(Datum::Oid(v)) => *v,
        Some(other) => other.as_i64().and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
        None => 0,
    }
}

/// An argument as text.
pub(crate) fn text_arg(args: &[Datum], at: usize) -> &str {
    args.get(at).and_then(Datum::as_str).unwrap_or_default()
}

impl Host for CatalogHost {
    fn call(&self, prosrc: &str, call: &CallInfoOwned, args: &[Datum]) -> Option<Result<Datum>> {
        self.describe(prosrc, args)
            .or_else(|| self.names(prosrc, args))
            .or_else(|| self.sequences(prosrc, args))
            .or_else(|| self.privileges(prosrc, args))
            .or_else(|| self.state(prosrc, call, args))
    }

    fn reg_in(&self, type_oid: Oid, text: &str) -> Result<Oid> {
        self.read_reg(type_oid, text)
    }

    fn reg_out(&self, type_oid: Oid, value: Oid) -> String {
        self.write_reg(type_oid, value)
    }
}
