//! Descriptors of databases, schemas, relations, sequences and roles, and the codecs between a
//! table's rows and the keys and values of the KV layer.
//!
//! A [`Catalog`] is an immutable snapshot; a statement binds against one `Arc<Catalog>`, and DDL
//! inside a transaction works on an overlay that becomes the node's snapshot at commit.
//! Descriptors are stored as rows of a system table, so DDL is as transactional as DML.

pub mod desc;

pub use desc::*;
