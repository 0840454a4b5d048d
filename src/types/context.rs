//! What a kernel may know of the session that runs it.

use std::sync::Arc;

use crate::oid::Oid;
use crate::{Datum, PgError, PgType, Result};

/// The order of fields in ambiguous date input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOrder {
    /// Month before day.
    Mdy,
    /// Day before month.
    Dmy,
    /// Year first.
    Ymd,
}

/// The output style of dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateStyle {
    /// `2026-11-22 10:00:00+00`
    Iso,
    /// `11/22/2026 10:00:00.00 UTC`
    Sql,
    /// `Sun Nov 22 10:00:00 2026 UTC`
    Postgres,
    /// `22.11.2026 10:00:00.00 UTC`
    German,
}

/// The output style of intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStyle {
    /// `1 year 2 mons 3 days 04:05:06`
    Postgres,
    /// `@ 1 year 2 mons 3 days 4 hours 5 mins 6 secs`
    PostgresVerbose,
    /// `+1-2 +3 +4:05:06`
    SqlStandard,
    /// `P1Y2M3DT4H5M6S`
    Iso8601,
}

/// The settings that change how values are read and written. A copy is kept per statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `DateStyle`, output half.
    pub date_style: DateStyle,
    /// `DateStyle`, input half.
    pub date_order: DateOrder,
    /// `IntervalStyle`.
    pub interval_style: IntervalStyle,
    /// `TimeZone`, parsed.
    pub time_zone: crate::datetime::TimeZone,
    /// `extra_float_digits`.
    pub extra_float_digits: i32,
    /// `bytea_output`: true for hex, false for escape.
    pub bytea_hex: bool,
    /// Schemas of `search_path` that exist, in order, the implicit ones excluded.
    pub search_path: Vec<Arc<str>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            date_style: DateStyle::Iso,
            date_order: DateOrder::Mdy,
            interval_style: IntervalStyle::Postgres,
            time_zone: crate::datetime::TimeZone::utc(),
            extra_float_digits: 1,
            bytea_hex: true,
            search_path: vec![Arc::from("public")],
        }
    }
}

/// What kernels ask of the world around them. Implemented by the executor over its catalog
/// snapshot and session; [`NoHost`] serves where there is none.
pub trait Host: Send + Sync + std::fmt::Debug {
    /// Runs a kernel whose answer depends on the catalog, the session or a sequence: every
    /// function whose `prosrc` has no pure kernel is offered here by that name, for instance
    /// `pg_get_indexdef`, `nextval_oid`, `show_config_by_name`. `None` when unknown here as well.
    fn call(&self, prosrc: &str, call: &CallInfoOwned, args: &[Datum]) -> Option<Result<Datum>>;

    /// Reads the text form of a `reg*` type; `type_oid` is for instance `REGCLASS`.
    fn reg_in(&self, type_oid: Oid, text: &str) -> Result<Oid>;

    /// Writes the text form of a `reg*` type.
    fn reg_out(&self, type_oid: Oid, value: Oid) -> String;
}

/// The types of one call, for [`Host::call`].
#[derive(Clone, Debug)]
pub struct CallInfoOwned {
    /// Types of the arguments.
    pub args: Vec<PgType>,
    /// Result type.
    pub ret: PgType,
}

/// A host that knows nothing, for tests and constant folding.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn call(&self, _: &str, _: &CallInfoOwned, _: &[Datum]) -> Option<Result<Datum>> {
        None
    }

    fn reg_in(&self, type_oid: Oid, text: &str) -> Result<Oid> {
        text.parse().map_err(|_| {
            PgError::unsupported(format!("name lookup of type {type_oid} needs a catalog: {text}"))
        })
    }

    fn reg_out(&self, _: Oid, value: Oid) -> String {
        value.to_string()
    }
}

/// Everything that the evaluation of an expression may depend on besides its arguments.
#[derive(Clone, Debug)]
pub struct EvalContext {
    /// The session's formatting settings.
    pub settings: Arc<Settings>,
    /// Start of the transaction (`now()`), microseconds since 2000-01-01 UTC.
    pub transaction_time: i64,
    /// Start of the statement, same unit.
    pub statement_time: i64,
    /// Catalog, session and sequences.
    pub host: Arc<dyn Host>,
}

impl EvalContext {
    /// A context with default settings, time zero and no host.
    pub fn bare() -> EvalContext {
        EvalContext {
            settings: Arc::new(Settings::default()),
            transaction_time: 0,
            statement_time: 0,
            host: Arc::new(NoHost),
        }
    }
}
