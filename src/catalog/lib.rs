//! Descriptors of databases, schemas, relations, sequences and roles, and the codecs between a
//! table's rows and the keys and values of the KV layer.
//!
//! A [`Catalog`] is an immutable snapshot; a statement binds against one `Arc<Catalog>`, and DDL
//! inside a transaction works on an [`Overlay`] that is put on the node's snapshot at commit.
//! Descriptors are stored as rows of a system table, so DDL is as transactional as DML.

pub mod builtin;
pub mod desc;
pub mod key;
mod number;
pub mod overlay;
mod read_key;
pub mod row;
pub mod search_path;
pub mod snapshot;
mod sort;
pub mod value;

#[cfg(test)]
mod codec_tests;

pub use desc::*;
pub use key::{IndexCodec, KeyKind};
pub use overlay::Overlay;
pub use row::{DatumRef, RowRef, TableCodec};
pub use search_path::SearchPath;
pub use snapshot::{Catalog, Change, Descriptor, DescriptorId};
