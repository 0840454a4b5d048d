//! Why date and time input was refused, before the error knows the whole input.

use crate::{PgError, SqlState};

/// The reason; [`Fail::error`] turns it into the error that the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fail {
    /// Not a value of the type.
    Syntax,
    /// A field is out of range.
    Field,
    /// Month or day is out of range, perhaps because `DateStyle` is another one.
    MonthDay,
    /// A field of an interval is out of range.
    Interval,
    /// A zone's offset is out of range.
    Zone,
    /// No zone of this name.
    UnknownZone(String),
}

pub(super) type Decoded<T> = std::result::Result<T, Fail>;

impl Fail {
    pub(super) fn error(&self, input: &str, type_name: &str) -> PgError {
        let field = || {
            PgError::new(
                SqlState::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: \"{input}\""),
            )
        };
        match self {
            Fail::Field => field(),
            Fail::MonthDay => field().hint("Perhaps you need a different \"datestyle\" setting."),
            Fail::Interval => PgError::new(
                SqlState::INTERVAL_FIELD_OVERFLOW,
                format!("interval field value out of range: \"{input}\""),
            ),
            Fail::Zone => PgError::new(
                SqlState::INVALID_TIME_ZONE_DISPLACEMENT_VALUE,
                format!("time zone displacement out of range: \"{input}\""),
            ),
            Fail::UnknownZone(name) => unknown_zone(name),
            Fail::Syntax => PgError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {type_name}: \"{input}\""),
            ),
        }
    }
}

/// The error of a zone name that means nothing.
pub(crate) fn unknown_zone(name: &str) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"))
}

/// `22008` "timestamp out of range".
pub(crate) fn timestamp_out_of_range() -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

/// `22008` "interval out of range".
pub(crate) fn interval_out_of_range() -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

/// `22008` "date out of range".
pub(crate) fn date_out_of_range() -> PgError {
    PgError::new(SqlState::DATETIME_FIELD_OVERFLOW, "date out of range")
}
