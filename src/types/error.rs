//! The error that a client sees: PostgreSQL's `ErrorResponse` as a value.
//!
//! The SQLSTATE is decided where the error is raised, once. Message style is PostgreSQL's: primary
//! message in lower case without a full stop, detail and hint in full sentences.

use std::fmt;

/// A five-character SQLSTATE. The associated constants carry the names of PostgreSQL's appendix A.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

macro_rules! sqlstates {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState { $(
            #[doc = concat!("`", $code, "`, ", stringify!($name), ".")]
            pub const $name: SqlState = SqlState::from_code($code);
        )* }
    };
}

impl SqlState {
    /// The state with this five-character code.
    pub const fn from_code(code: &str) -> SqlState {
        let b = code.as_bytes();
        assert!(b.len() == 5);
        SqlState([b[0], b[1], b[2], b[3], b[4]])
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

sqlstates! {
    WARNING = "01000";
    CONNECTION_FAILURE = "08006";
    PROTOCOL_VIOLATION = "08P01";
    FEATURE_NOT_SUPPORTED = "0A000";
    CARDINALITY_VIOLATION = "21000";
    STRING_DATA_RIGHT_TRUNCATION = "22001";
    NULL_VALUE_NOT_ALLOWED_EXTERNAL = "22004";
    NUMERIC_VALUE_OUT_OF_RANGE = "22003";
    INVALID_DATETIME_FORMAT = "22007";
    DATETIME_FIELD_OVERFLOW = "22008";
    INVALID_TIME_ZONE_DISPLACEMENT_VALUE = "22009";
    DIVISION_BY_ZERO = "22012";
    INTERVAL_FIELD_OVERFLOW = "22015";
    INVALID_ARGUMENT_FOR_LOG = "2201E";
    INVALID_ARGUMENT_FOR_POWER_FUNCTION = "2201F";
    INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION = "2201G";
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = "2201W";
    INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE = "2201X";
    INVALID_REGULAR_EXPRESSION = "2201B";
    INVALID_PRECEDING_OR_FOLLOWING_SIZE = "22013";
    INVALID_ARGUMENT_FOR_NTILE_FUNCTION = "22014";
    INVALID_ARGUMENT_FOR_NTH_VALUE = "22016";
    INVALID_PARAMETER_VALUE = "22023";
    INVALID_ESCAPE_SEQUENCE = "22025";
    STRING_DATA_LENGTH_MISMATCH = "22026";
    INVALID_ESCAPE_CHARACTER = "22019";
    CHARACTER_NOT_IN_REPERTOIRE = "22021";
    SUBSTRING_ERROR = "22011";
    ARRAY_SUBSCRIPT_ERROR = "2202E";
    INVALID_TEXT_REPRESENTATION = "22P02";
    INVALID_BINARY_REPRESENTATION = "22P03";
    BAD_COPY_FILE_FORMAT = "22P04";
    UNTRANSLATABLE_CHARACTER = "22P05";
    NULL_VALUE_NOT_ALLOWED = "22004";
    DUPLICATE_JSON_OBJECT_KEY_VALUE = "22030";
    INTEGRITY_CONSTRAINT_VIOLATION = "23000";
    NOT_NULL_VIOLATION = "23502";
    FOREIGN_KEY_VIOLATION = "23503";
    UNIQUE_VIOLATION = "23505";
    CHECK_VIOLATION = "23514";
    INVALID_CURSOR_STATE = "24000";
    ACTIVE_SQL_TRANSACTION = "25001";
    READ_ONLY_SQL_TRANSACTION = "25006";
    NO_ACTIVE_SQL_TRANSACTION = "25P01";
    IN_FAILED_SQL_TRANSACTION = "25P02";
    INVALID_SQL_STATEMENT_NAME = "26000";
    INVALID_AUTHORIZATION_SPECIFICATION = "28000";
    INVALID_PASSWORD = "28P01";
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01";
    INVALID_SAVEPOINT_SPECIFICATION = "3B001";
    INVALID_CURSOR_NAME = "34000";
    INVALID_CATALOG_NAME = "3D000";
    INVALID_SCHEMA_NAME = "3F000";
    SERIALIZATION_FAILURE = "40001";
    STATEMENT_COMPLETION_UNKNOWN = "40003";
    DEADLOCK_DETECTED = "40P01";
    SYNTAX_ERROR = "42601";
    INSUFFICIENT_PRIVILEGE = "42501";
    CANNOT_COERCE = "42846";
    GROUPING_ERROR = "42803";
    WINDOWING_ERROR = "42P20";
    INVALID_RECURSION = "42P19";
    INVALID_FOREIGN_KEY = "42830";
    INVALID_NAME = "42602";
    NAME_TOO_LONG = "42622";
    RESERVED_NAME = "42939";
    DATATYPE_MISMATCH = "42804";
    INDETERMINATE_DATATYPE = "42P18";
    COLLATION_MISMATCH = "42P21";
    INDETERMINATE_COLLATION = "42P22";
    WRONG_OBJECT_TYPE = "42809";
    GENERATED_ALWAYS = "428C9";
    UNDEFINED_COLUMN = "42703";
    UNDEFINED_FUNCTION = "42883";
    UNDEFINED_TABLE = "42P01";
    UNDEFINED_PARAMETER = "42P02";
    UNDEFINED_OBJECT = "42704";
    DUPLICATE_COLUMN = "42701";
    DUPLICATE_CURSOR = "42P03";
    DUPLICATE_DATABASE = "42P04";
    DUPLICATE_FUNCTION = "42723";
    DUPLICATE_PREPARED_STATEMENT = "42P05";
    DUPLICATE_SCHEMA = "42P06";
    DUPLICATE_TABLE = "42P07";
    DUPLICATE_ALIAS = "42712";
    DUPLICATE_OBJECT = "42710";
    AMBIGUOUS_COLUMN = "42702";
    AMBIGUOUS_FUNCTION = "42725";
    AMBIGUOUS_PARAMETER = "42P08";
    AMBIGUOUS_ALIAS = "42P09";
    INVALID_COLUMN_REFERENCE = "42P10";
    INVALID_COLUMN_DEFINITION = "42611";
    INVALID_CURSOR_DEFINITION = "42P11";
    INVALID_DATABASE_DEFINITION = "42P12";
    INVALID_FUNCTION_DEFINITION = "42P13";
    INVALID_PREPARED_STATEMENT_DEFINITION = "42P14";
    INVALID_SCHEMA_DEFINITION = "42P15";
    INVALID_TABLE_DEFINITION = "42P16";
    INVALID_OBJECT_DEFINITION = "42P17";
    WITH_CHECK_OPTION_VIOLATION = "44000";
    INSUFFICIENT_RESOURCES = "53000";
    DISK_FULL = "53100";
    OUT_OF_MEMORY = "53200";
    TOO_MANY_CONNECTIONS = "53300";
    CONFIGURATION_LIMIT_EXCEEDED = "53400";
    PROGRAM_LIMIT_EXCEEDED = "54000";
    STATEMENT_TOO_COMPLEX = "54001";
    TOO_MANY_COLUMNS = "54011";
    TOO_MANY_ARGUMENTS = "54023";
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
    OBJECT_IN_USE = "55006";
    CANT_CHANGE_RUNTIME_PARAM = "55P02";
    LOCK_NOT_AVAILABLE = "55P03";
    QUERY_CANCELED = "57014";
    ADMIN_SHUTDOWN = "57P01";
    CANNOT_CONNECT_NOW = "57P03";
    IDLE_SESSION_TIMEOUT = "57P05";
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03";
    SYSTEM_ERROR = "58000";
    IO_ERROR = "58030";
    SNAPSHOT_TOO_OLD = "72000";
    INTERNAL_ERROR = "XX000";
    DATA_CORRUPTED = "XX001";
}

/// A PostgreSQL error: everything that an `ErrorResponse` message can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError(Box<Fields>);

/// The fields of a [`PgError`]. All texts are what the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The SQLSTATE code.
    pub state: SqlState,
    /// Primary message, lower case, no full stop.
    pub message: String,
    /// Detail, full sentences.
    pub detail: Option<String>,
    /// Hint, full sentences.
    pub hint: Option<String>,
    /// One-based position in the query text, in characters.
    pub position: Option<u32>,
    /// Where the error arose, for instance "COPY t, line 3".
    pub context: Option<String>,
    /// Schema of the object concerned.
    pub schema: Option<String>,
    /// Table concerned.
    pub table: Option<String>,
    /// Column concerned.
    pub column: Option<String>,
    /// Data type concerned.
    pub data_type: Option<String>,
    /// Constraint concerned.
    pub constraint: Option<String>,
}

impl PgError {
    /// An error with this state and primary message.
    pub fn new(state: SqlState, message: impl Into<String>) -> PgError {
        PgError(Box::new(Fields {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            table: None,
            column: None,
            data_type: None,
            constraint: None,
        }))
    }

    /// `0A000`: understood, but not built yet.
    pub fn unsupported(what: impl Into<String>) -> PgError {
        PgError::new(SqlState::FEATURE_NOT_SUPPORTED, what)
    }

    /// `XX000`: a defect of Meridian's own.
    pub fn internal(what: impl Into<String>) -> PgError {
        PgError::new(SqlState::INTERNAL_ERROR, what)
    }

    /// The fields.
    pub fn fields(&self) -> &Fields {
        &self.0
    }

    /// The fields, to be changed.
    pub fn fields_mut(&mut self) -> &mut Fields {
        &mut self.0
    }

    /// The SQLSTATE.
    pub fn state(&self) -> SqlState {
        self.0.state
    }

    /// With this detail.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> PgError {
        self.0.detail = Some(text.into());
        self
    }

    /// With this hint.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> PgError {
        self.0.hint = Some(text.into());
        self
    }

    /// With this one-based character position, unless one is set already.
    #[must_use]
    pub fn at(mut self, position: Option<u32>) -> PgError {
        if self.0.position.is_none() {
            self.0.position = position;
        }
        self
    }

    /// With the constraint's names, as drivers read them.
    #[must_use]
    pub fn constraint(mut self, schema: &str, table: &str, constraint: &str) -> PgError {
        self.0.schema = Some(schema.to_owned());
        self.0.table = Some(table.to_owned());
        self.0.constraint = Some(constraint.to_owned());
        self
    }

    /// With the column's names, as drivers read them.
    #[must_use]
    pub fn column(mut self, schema: &str, table: &str, column: &str) -> PgError {
        self.0.schema = Some(schema.to_owned());
        self.0.table = Some(table.to_owned());
        self.0.column = Some(column.to_owned());
        self
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.0.state.as_str())
    }
}

impl std::error::Error for PgError {}
