//! The options of COPY, checked as PostgreSQL checks them.

use meridian_types::{PgError, Result, SqlState};

/// The three forms of COPY data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// Tab-separated lines with backslash escapes.
    #[default]
    Text,
    /// Comma-separated values.
    Csv,
    /// PGCOPY
    Binary,
}

/// `HEADER`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Header {
    /// No header line.
    #[default]
    Off,
    /// A line of column names, skipped on input.
    On,
    /// The same, and on input it must name the columns.
    Match,
}

/// Columns that an option is for.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) enum Columns {
    /// None.
    #[default]
    None,
    /// `*`
    All,
    /// These.
    Named(Vec<String>),
}

impl Columns {
    /// The option is for this column.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Columns::None => false,
            Columns::All => true,
            Columns::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

/// All options, complete.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) format: Format,
    pub(crate) delimiter: u8,
    pub(crate) null: String,
    pub(crate) header: Header,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    pub(crate) force_quote: Columns,
    pub(crate) force_not_null: Columns,
    pub(crate) force_null: Columns,
}

/// One option as written: its name in lower case and its words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Given {
    pub(crate) name: String,
    /// The words after the name; `*` for all columns; empty when there were none.
    pub(crate) values: Vec<String>,
}

impl Options {
    /// Checks what was written. `is_from` is COPY … FROM.
    pub(crate) fn check(given: &[Given], is_from: bool) -> Result<Options> {
        let mut seen: Vec<&str> = Vec::new();
        let mut format = Format::Text;
        for option in given {
            if seen.contains(&option.name.as_str()) {
                return Err(syntax("conflicting or redundant options"));
            }
            seen.push(&option.name);
            if option.name == "format" {
                format = match option.value().as_str() {
                    "text" => Format::Text,
                    "csv" => Format::Csv,
                    "binary" => Format::Binary,
                    other => {
                        return Err(invalid(format!("COPY format \"{other}\" not recognized")));
                    }
                };
            }
        }
        let csv = format == Format::Csv;
        let mut options = Options {
            format,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_owned() },
            header: Header::Off,
            quote: b'"',
            escape: b'"',
            force_quote: Columns::None,
            force_not_null: Columns::None,
            force_null: Columns::None,
        };
        for option in given {
            options.take(option, is_from)?;
        }
        if seen.contains(&"quote") && !seen.contains(&"escape") {
            options.escape = options.quote;
        }
        options.consistent(&seen, is_from)?;
        Ok(options)
    }

    fn take(&mut self, option: &Given, is_from: bool) -> Result<()> {
        match option.name.as_str() {
            "format" => {}
            "freeze" => {
                option.boolean()?;
            }
            "delimiter" => self.delimiter = option.single_byte("COPY delimiter")?,
            "null" => self.null = option.value(),
            "header" => {
                self.header = match option.value().to_lowercase().as_str() {
                    "match" if is_from => Header::Match,
                    "match" => {
                        return Err(PgError::unsupported(
                            "cannot use \"match\" with HEADER in COPY TO",
                        ));
                    }
                    _ if option.boolean()? => Header::On,
                    _ => Header::Off,
                }
            }
            "quote" => self.quote = option.single_byte("COPY quote")?,
            "escape" => self.escape = option.single_byte("COPY escape")?,
            "force_quote" => self.force_quote = option.columns(),
            "force_not_null" => self.force_not_null = option.columns(),
            "force_null" => self.force_null = option.columns(),
            "encoding" => match option.value().to_lowercase().replace(['-', '_'], "").as_str() {
                "utf8" | "unicode" | "sqlascii" => {}
                other => {
                    return Err(PgError::unsupported(format!(
                        "conversion between {other} and UTF8 is not supported"
                    )));
                }
            },
            other => return Err(syntax(format!("option \"{other}\" not recognized"))),
        }
        Ok(())
    }

    fn consistent(&self, seen: &[&str], is_from: bool) -> Result<()> {
        let has = |name: &str| seen.contains(&name);
        let csv = self.format == Format::Csv;
        if self.format == Format::Binary {
            for (name, shown) in
                [("delimiter", "DELIMITER"), ("null", "NULL"), ("header", "HEADER")]
            {
                if has(name) {
                    return Err(syntax(format!("cannot specify {shown} in BINARY mode")));
                }
            }
        }
        if !csv {
            for (name, shown) in [("quote", "quote"), ("escape", "escape")] {
                if has(name) {
                    return Err(PgError::unsupported(format!(
                        "COPY {shown} available only in CSV mode"
                    )));
                }
            }
            for (name, shown) in [
                ("force_quote", "force quote"),
                ("force_not_null", "force not null"),
                ("force_null", "force null"),
            ] {
                if has(name) {
                    return Err(PgError::unsupported(format!(
                        "COPY {shown} available only in CSV mode"
                    )));
                }
            }
        }
        if has("force_quote") && is_from {
            return Err(PgError::unsupported("COPY force quote only available using COPY TO"));
        }
        if (has("force_not_null") || has("force_null")) && !is_from {
            let which = if has("force_null") { "null" } else { "not null" };
            return Err(PgError::unsupported(format!(
                "COPY force {which} only available using COPY FROM"
            )));
        }
        self.delimiters_differ()
    }

    fn delimiters_differ(&self) -> Result<()> {
        let csv = self.format == Format::Csv;
        if matches!(self.delimiter, b'\r' | b'\n') {
            return Err(invalid("COPY delimiter cannot be newline or carriage return"));
        }
        if self.null.contains(['\r', '\n']) {
            return Err(invalid("COPY null representation cannot use newline or carriage return"));
        }
        let text_reserved = b"\\.abcdefghijklmnopqrstuvwxyz0123456789";
        if !csv && text_reserved.contains(&self.delimiter) {
            return Err(invalid(format!(
                "COPY delimiter cannot be \"{}\"",
                char::from(self.delimiter)
            )));
        }
        if csv && self.delimiter == self.quote {
            return Err(invalid("COPY delimiter and quote must be different"));
        }
        if self.null.as_bytes().contains(&self.delimiter) {
            return Err(invalid("COPY delimiter must not appear in the NULL specification"));
        }
        if csv && self.null.as_bytes().contains(&self.quote) {
            return Err(invalid("CSV quote character must not appear in the NULL specification"));
        }
        Ok(())
    }
}

impl Given {
    fn value(&self) -> String {
        self.values.first().cloned().unwrap_or_default()
    }

    fn boolean(&self) -> Result<bool> {
        if self.values.is_empty() {
            return Ok(true);
        }
        meridian_types::io::chars::parse_bool(&self.value())
            .ok_or_else(|| syntax(format!("{} requires a Boolean value", self.name)))
    }

    fn single_byte(&self, what: &str) -> Result<u8> {
        match self.value().as_bytes() {
            [byte] => Ok(*byte),
            _ => Err(PgError::unsupported(format!("{what} must be a single one-byte character"))),
        }
    }

    fn columns(&self) -> Columns {
        if self.values == ["*"] { Columns::All } else { Columns::Named(self.values.clone()) }
    }
}

fn syntax(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::SYNTAX_ERROR, message)
}

fn invalid(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
