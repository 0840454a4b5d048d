//! The functions that ask the catalog or the session: [`Host`] over a snapshot.
//!
//! A function arrives by the name of its kernel (`prosrc`, or the signature of one written in SQL).
//! Families are spread over files; each answers `None` for names that aren't its own.

mod describe;
mod names;
mod privilege;
mod sequences;
mod state;

use std::future::Future;
use std::sync::Arc;

use meridian_catalog::Relation;
use meridian_types::context::{CallInfoOwned, Host};
use meridian_types::oid::Oid;
use meridian_types::{Datum, PgError, Result};

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

/// A stored expression as PostgreSQL shows it.
pub(crate) fn display_expression(view: &SessionCatalog, text: Option<&str>) -> Option<String> {
    let text = text?;
    // The default of a serial column names its sequence by oid.
    if let Some(rest) = text.strip_prefix("nextval('")
        && let Some((number, tail)) = rest.split_once('\'')
        && let Ok(oid) = number.parse::<Oid>()
        && let Some(relation) = view.catalog.relation(oid)
    {
        let name = view.relation_name(&relation).replace('\'', "''");
        return Some(format!("nextval('{name}'{tail}"));
    }
    Some(text.to_owned())
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
