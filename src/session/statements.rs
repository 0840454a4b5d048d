//! Prepared statements, and the plans that are kept for them and for repeated texts.

use std::collections::HashMap;
use std::sync::Arc;

use meridian_exec::Prepared;
use meridian_exec::catalog_store::SessionCatalog;
use meridian_exec::keypath::KeyPlan;
use meridian_sql::parse::{Parsed, Statement};
use meridian_sql::plan::Query;
use meridian_types::PgType;
use parking_lot::Mutex;

use crate::client::ResultColumn;

/// Texts whose statements a session keeps. Half of it serves applications with few statements as
/// well; twice of it costs memory in each of thousands of sessions.
const TEXTS_MAX: usize = 64;
/// Longer texts are not kept.
const TEXT_BYTES_MAX: usize = 4096;

/// Whether a statement keeps its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Not so for texts of the simple protocol: literals such as `'now'` are read anew each time, with
    /// the settings of that time.
    No,
    /// As long as it is current; the next one may give other columns.
    Freely,
    /// The client was told of parameters and columns, which must stay what they are.
    Promised,
}

/// A statement that was parsed once and may be run many times.
#[derive(Debug)]
pub(crate) struct PreparedStatement {
    /// The text that positions refer to.
    pub(crate) text: Arc<str>,
    /// The statement; `None` when the text has none.
    pub(crate) parsed: Option<Parsed>,
    /// Parameter types as given; 0 where the client left one open.
    pub(crate) given: Vec<PgType>,
    pub(crate) keep: Keep,
    plan: Mutex<Option<Arc<Plan>>>,
    /// Parameter types and output columns as first told to the client; they must not change.
    pub(crate) promised: Mutex<Option<(Vec<PgType>, Vec<PgType>)>>,
}

/// A statement bound and ready to run, in one view of the catalog.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The view that it was bound in: it is current only in this one.
    pub(crate) view: Arc<SessionCatalog>,
    pub(crate) prepared: Arc<Prepared>,
    /// The short way, for those statements that have one.
    pub(crate) key: Option<KeyPlan>,
    /// Output columns, all marked as text.
    pub(crate) columns: Arc<[ResultColumn]>,
}

impl Plan {
    pub(crate) fn query(&self) -> &Query {
        self.prepared.query()
    }
}

impl PreparedStatement {
    pub(crate) fn new(
        text: Arc<str>,
        parsed: Option<Parsed>,
        given: Vec<PgType>,
    ) -> PreparedStatement {
        let (plan, promised) = (Mutex::new(None), Mutex::new(None));
        PreparedStatement { text, parsed, given, keep: Keep::Promised, plan, promised }
    }

    /// A statement of a text that comes by the simple protocol.
    pub(crate) fn of_text(text: Arc<str>, parsed: Parsed) -> PreparedStatement {
        let statement = PreparedStatement::new(text, Some(parsed), vec![]);
        PreparedStatement { keep: Keep::No, ..statement }
    }

    /// A statement of such a text without its literals.
    pub(crate) fn of_shape(
        text: Arc<str>,
        parsed: Parsed,
        given: Vec<PgType>,
    ) -> PreparedStatement {
        let statement = PreparedStatement::new(text, Some(parsed), given);
        PreparedStatement { keep: Keep::Freely, ..statement }
    }

    pub(crate) fn statement(&self) -> Option<&Statement> {
        self.parsed.as_ref().map(|parsed| &parsed.statement)
    }

    /// The plan, if it is current in this view.
    pub(crate) fn plan_in(&self, view: &Arc<SessionCatalog>) -> Option<Arc<Plan>> {
        self.plan.lock().as_ref().filter(|plan| Arc::ptr_eq(&plan.view, view)).cloned()
    }

    pub(crate) fn keep_plan(&self, plan: &Arc<Plan>) {
        *self.plan.lock() = Some(Arc::clone(plan));
    }
}

/// What is known of a text whose literals were taken out.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Runs with the literals as its parameters.
    Usable(Arc<PreparedStatement>),
    /// Could not be parsed or bound, at this epoch of the catalog: its texts run as they are.
    Unusable(u64),
}

/// What a session keeps for texts that a client sends again.
#[derive(Debug)]
pub(crate) struct TextCache<T> {
    kept: HashMap<String, (T, u64)>,
    clock: u64,
}

impl<T> Default for TextCache<T> {
    fn default() -> TextCache<T> {
        TextCache { kept: HashMap::new(), clock: 0 }
    }
}

impl<T: Clone> TextCache<T> {
    /// What is kept for this text.
    pub(crate) fn get(&mut self, text: &str) -> Option<T> {
        self.clock += 1;
        let (kept, used) = self.kept.get_mut(text)?;
        *used = self.clock;
        Some(kept.clone())
    }

    /// Keeps something; what was not used for longest goes.
    pub(crate) fn put(&mut self, text: &str, value: T) {
        if text.len() > TEXT_BYTES_MAX {
            return;
        }
        if self.kept.len() >= TEXTS_MAX && !self.kept.contains_key(text) {
            let oldest = self.kept.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.kept.remove(&key);
            }
        }
        self.kept.insert(text.to_owned(), (value, self.clock));
    }

    /// Forgets all (DISCARD PLANS).
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }
}
