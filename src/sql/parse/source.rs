//! The text of a statement and its tokens, for positions in errors.

use std::sync::Arc;

use sqlparser::tokenizer::Location;

/// A statement's text.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The whole query string, of which the statement may be a part.
    pub text: Arc<str>,
    /// Positions are meaningful to the client (not so for the text of a view or default).
    pub visible: bool,
}

impl Source {
    /// The one-based character position of a location in the syntax tree.
    pub fn position(&self, at: Location) -> Option<u32> {
        if !self.visible || at.line == 0 {
            return None;
        }
        u32::try_from(at.column).ok()
    }
}
