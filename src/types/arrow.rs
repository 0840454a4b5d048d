//! Arrow arrays of PostgreSQL values.
