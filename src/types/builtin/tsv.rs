//! Reading the catalog files: PostgreSQL's COPY text format with a header line.
//!
//! The files are part of the binary, so fields borrow from it for ever and a file that does not
//! parse is a defect of the build, not an error of the user: readers panic.

/// A column's reader.
pub(super) trait Field: Sized {
    fn parse(text: &'static str) -> Self;
}

macro_rules! from_str_fields {
    ($($t:ty),*) => { $(
        impl Field for $t {
            fn parse(text: &'static str) -> Self {
                text.parse().expect("catalog files hold well-formed numbers")
            }
        }
    )* };
}
from_str_fields!(u32, i32, i16, f32);

impl Field for bool {
    fn parse(text: &'static str) -> bool {
        text == "t"
    }
}

impl Field for &'static str {
    fn parse(text: &'static str) -> &'static str {
        unescape(text)
    }
}

/// A `"char"` column.
impl Field for char {
    fn parse(text: &'static str) -> char {
        text.chars().next().unwrap_or('\0')
    }
}

/// An `oidvector` column, separated by blanks.
impl Field for Vec<u32> {
    fn parse(text: &'static str) -> Vec<u32> {
        text.split_ascii_whitespace().map(u32::parse).collect()
    }
}

/// A `"char"[]` column, written without separators.
impl Field for Vec<char> {
    fn parse(text: &'static str) -> Vec<char> {
        text.chars().collect()
    }
}

/// A `text[]` column of names, separated by commas.
impl Field for Vec<&'static str> {
    fn parse(text: &'static str) -> Vec<&'static str> {
        text.split(',').collect()
    }
}

impl<T: Field> Field for Option<T> {
    fn parse(text: &'static str) -> Option<T> {
        (text != "\\N").then(|| T::parse(text))
    }
}

/// The few texts with COPY escapes are rewritten once and kept for the life of the process.
fn unescape(text: &'static str) -> &'static str {
    if !text.contains('\\') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('r')) => out.push('\r'),
            ('\\', Some(other)) => out.push(other),
            (c, _) => out.push(c),
        }
    }
    Box::leak(out.into_boxed_str())
}

/// Declares a row type, its fields in the order of the file's columns, and its reader.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident: $t:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name { $($(#[$fdoc])* pub $field: $t,)* }

        impl $name {
            pub(super) fn read(file: &'static str) -> Vec<$name> {
                file.lines().skip(1).map(|line| {
                    let mut columns = line.split('\t');
                    $(let $field = <$t as super::tsv::Field>::parse(
                        columns.next().expect("every line has every column"));)*
                    $name { $($field,)* }
                }).collect()
            }
        }
    };
}
pub(super) use row;
