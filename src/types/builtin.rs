//! PostgreSQL's built-in catalog rows.
