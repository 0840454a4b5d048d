//! Tests from outside, over the wire only.
