//! COPY data in text and CSV form: bytes that are cut anywhere in, fields out.
//!
//! [`Decoder`] keeps what has come until a line is whole. A line of the text form ends at a newline
//! that no backslash precedes; a CSV line at a newline outside quotes. `\.` alone on a line ends
//! the data in the text form (and, unquoted, in CSV).

use meridian_types::{PgError, Result, SqlState};

use super::options::{Format, Options};

/// Takes lines apart.
#[derive(Debug)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
    /// Bytes of `pending` that were searched for the end of a line already.
    scanned: usize,
    in_quotes: bool,
    /// Lines taken so far.
    pub(crate) line: u64,
    ended: bool,
}

/// The fields of one line; `None` is NULL. Texts share one buffer.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    text: Vec<u8>,
    ends: Vec<(usize, bool)>,
}

impl Fields {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Fields that are what they look like.
    fn split_plain(&mut self, line: &[u8], delimiter: u8) {
        let mut from = 0;
        for end in memchr::memchr_iter(delimiter, line).chain([line.len()]) {
            self.text.extend_from_slice(&line[from..end]);
            self.finish(false);
            from = end + 1;
        }
    }

    fn finish(&mut self, is_null: bool) {
        self.ends.push((self.text.len(), is_null));
    }

    /// Number of fields.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field's text, or `None` for NULL.
    pub(crate) fn get(&self, i: usize) -> Result<Option<&str>> {
        let start = if i == 0 { 0 } else { self.ends[i - 1].0 };
        let (end, is_null) = self.ends[i];
        if is_null {
            return Ok(None);
        }
        std::str::from_utf8(&self.text[start..end]).map(Some).map_err(|_| {
            PgError::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                "invalid byte sequence for encoding \"UTF8\"",
            )
        })
    }
}

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { pending: Vec::new(), scanned: 0, in_quotes: false, line: 0, ended: false }
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.ended {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Calls `each` with every whole line, its end taken off; with `last`, also with the rest.
    pub(crate) fn lines(
        &mut self,
        options: &Options,
        last: bool,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        while !self.ended {
            let Some(end) = self.line_end(options) else { break };
            let mut line = &self.pending[start..end];
            if line.last() == Some(&b'\r') {
                line = &line[..line.len() - 1];
            }
            self.scanned = end + 1;
            self.line += 1;
            if line == b"\\." {
                self.ended = true;
            } else {
                each(self.line, line)?;
            }
            start = end + 1;
        }
        if last && !self.ended && start < self.pending.len() {
            if self.in_quotes {
                return Err(bad("unterminated CSV quoted field"));
            }
            self.line += 1;
            let line = &self.pending[start..];
            if line != b"\\." {
                each(self.line, line)?;
            }
            start = self.pending.len();
        }
        self.pending.drain(..start);
        self.scanned = self.scanned.saturating_sub(start);
        Ok(())
    }

    /// The next newline that ends a line, looking on from where the search stopped.
    fn line_end(&mut self, options: &Options) -> Option<usize> {
        if options.format == Format::Text {
            let mut at = self.scanned;
            while let Some(found) = memchr::memchr2(b'\n', b'\\', &self.pending[at..]) {
                let found = at + found;
                if self.pending[found] == b'\n' {
                    return Some(found);
                }
                if found + 1 == self.pending.len() {
                    // A backslash at the very end is looked at again with what follows it.
                    self.scanned = found;
                    return None;
                }
                at = found + 2;
            }
            self.scanned = self.pending.len();
            return None;
        }
        for (i, &byte) in self.pending.iter().enumerate().skip(self.scanned) {
            if byte == b'\n' && !self.in_quotes {
                return Some(i);
            }
            // An escape that differs from the quote protects a quote inside of quotes.
            let escaped = options.escape != options.quote
                && i > 0
                && self.in_quotes
                && self.pending[i - 1] == options.escape;
            if byte == options.quote && !escaped {
                self.in_quotes = !self.in_quotes;
            }
        }
        self.scanned = self.pending.len();
        None
    }
}

/// Takes a line apart into fields.
pub(crate) fn split(line: &[u8], options: &Options, fields: &mut Fields) -> Result<()> {
    fields.clear();
    match options.format {
        Format::Csv => split_csv(line, options, fields),
        _ => {
            split_text(line, options, fields);
            Ok(())
        }
    }
}

fn split_text(line: &[u8], options: &Options, fields: &mut Fields) {
    let mut rest = line;
    if memchr::memchr(b'\\', line).is_none() && options.null.contains('\\') {
        // Nothing is escaped and nothing is NULL.
        fields.split_plain(line, options.delimiter);
        return;
    }
    loop {
        let end = field_end(rest, options.delimiter);
        let raw = &rest[..end];
        let is_null = raw == options.null.as_bytes();
        if !is_null {
            unescape(raw, &mut fields.text);
        }
        fields.finish(is_null);
        if end == rest.len() {
            return;
        }
        rest = &rest[end + 1..];
    }
}

fn field_end(rest: &[u8], delimiter: u8) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|r| memchr::memchr2(delimiter, b'\\', r)) {
        if rest[at + found] == delimiter {
            return at + found;
        }
        at += found + 2;
    }
    rest.len()
}

/// Backslash escapes of the text form.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut i = 0;
    while i < raw.len() {
        let byte = raw[i];
        i += 1;
        if byte != b'\\' || i == raw.len() {
            out.push(byte);
            continue;
        }
        let code = raw[i];
        i += 1;
        match code {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => i = numeric_escape(raw, i - 1, 3, 8, out),
            b'x' if raw.get(i).is_some_and(u8::is_ascii_hexdigit) => {
                i = numeric_escape(raw, i, 2, 16, out);
            }
            other => out.push(other),
        }
    }
}

fn numeric_escape(
    raw: &[u8],
    start: usize,
    digits_max: usize,
    base: u32,
    out: &mut Vec<u8>,
) -> usize {
    let mut value = 0u32;
    let mut i = start;
    while i < raw.len() && i < start + digits_max {
        let Some(digit) = char::from(raw[i]).to_digit(base) else { break };
        value = value * base + digit;
        i += 1;
    }
    out.push(u8::try_from(value & 0xff).unwrap_or_default());
    i
}

fn split_csv(line: &[u8], options: &Options, fields: &mut Fields) -> Result<()> {
    let mut i = 0;
    loop {
        let start = fields.text.len();
        let (mut quoted, mut in_quotes) = (false, false);
        while i < line.len() {
            let byte = line[i];
            if in_quotes {
                let next = line.get(i + 1).copied();
                if byte == options.escape
                    && next.is_some_and(|n| n == options.quote || n == options.escape)
                {
                    fields.text.push(line[i + 1]);
                    i += 1;
                } else if byte == options.quote {
                    in_quotes = false;
                } else {
                    fields.text.push(byte);
                }
            } else if byte == options.delimiter {
                break;
            } else if byte == options.quote {
                (quoted, in_quotes) = (true, true);
            } else {
                fields.text.push(byte);
            }
            i += 1;
        }
        if in_quotes {
            return Err(bad("unterminated CSV quoted field"));
        }
        let is_null = !quoted && &fields.text[start..] == options.null.as_bytes();
        fields.finish(is_null);
        if i >= line.len() {
            return Ok(());
        }
        i += 1;
    }
}

/// Appends one field in the text form.
pub(crate) fn put_text(out: &mut Vec<u8>, value: &[u8], delimiter: u8) {
    for &byte in value {
        let code = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            _ if byte == delimiter => delimiter,
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', code]);
    }
}

/// Appends one field in CSV form. `only` says that it is the line's only field.
pub(crate) fn put_csv(out: &mut Vec<u8>, value: &[u8], options: &Options, force: bool, only: bool) {
    let needs = force
        || value == options.null.as_bytes()
        || (only && value == b"\\.")
        || value
            .iter()
            .any(|b| *b == options.delimiter || *b == options.quote || matches!(b, b'\n' | b'\r'));
    if !needs {
        out.extend_from_slice(value);
        return;
    }
    out.push(options.quote);
    for &byte in value {
        if byte == options.quote || byte == options.escape {
            out.push(options.escape);
        }
        out.push(byte);
    }
    out.push(options.quote);
}

fn bad(message: &str) -> PgError {
    PgError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::options::Given;

    fn options(format: &str) -> Options {
        let given = Given { name: "format".into(), values: vec![format.into()] };
        Options::check(&[given], true).expect("valid")
    }

    fn decode(format: &str, data: &[u8], chunk: usize) -> Vec<Vec<Option<String>>> {
        let options = options(format);
        let (mut decoder, mut fields, mut rows) = (Decoder::new(), Fields::default(), vec![]);
        let mut take = |_: u64, line: &[u8]| {
            split(line, &options, &mut fields)?;
            let row: Result<Vec<_>> =
                (0..fields.len()).map(|i| Ok(fields.get(i)?.map(str::to_owned))).collect();
            rows.push(row?);
            Ok(())
        };
        for piece in data.chunks(chunk) {
            decoder.push(piece);
            decoder.lines(&options, false, &mut take).expect("valid");
        }
        decoder.lines(&options, true, &mut take).expect("valid");
        rows
    }

    fn some(s: &str) -> Option<String> {
        Some(s.to_owned())
    }

    #[test]
    fn text_lines_are_the_same_however_the_bytes_are_cut() {
        let data = b"1\ta\\tb\\\\\t\\N\n2\tx\\\ny\t\\x41\\101\n3\t\t\r\n\\.\nignored\n";
        for chunk in 1..data.len() {
            assert_eq!(
                decode("text", data, chunk),
                [
                    vec![some("1"), some("a\tb\\"), None],
                    vec![some("2"), some("x\ny"), some("AA")],
                    vec![some("3"), some(""), some("")],
                ],
                "cut every {chunk} bytes"
            );
        }
    }

    #[test]
    fn csv_lines_are_the_same_however_the_bytes_are_cut() {
        let data = b"1,\"a \"\"b\"\"\nc\",\n2,\"\",x\"y,z\"\n3,,end";
        for chunk in 1..data.len() {
            assert_eq!(
                decode("csv", data, chunk),
                [
                    vec![some("1"), some("a \"b\"\nc"), None],
                    vec![some("2"), some(""), some("xy,z")],
                    vec![some("3"), None, some("end")],
                ],
                "cut every {chunk} bytes"
            );
        }
    }

    #[test]
    fn what_is_put_is_read_back() {
        let value = b"a\tb\\c\nd\r\x08";
        let mut line = vec![];
        put_text(&mut line, value, b'\t');
        let mut fields = Fields::default();
        split(&line, &options("text"), &mut fields).expect("valid");
        assert_eq!(fields.get(0).expect("UTF-8").map(str::as_bytes), Some(&value[..]));

        let csv = options("csv");
        let mut line = vec![];
        put_csv(&mut line, b"a\"b,c", &csv, false, false);
        assert_eq!(line, b"\"a\"\"b,c\"");
        split(&line, &csv, &mut fields).expect("valid");
        assert_eq!(fields.get(0).expect("UTF-8"), Some("a\"b,c"));
    }

    #[test]
    fn bad_options_are_refused() {
        let check = |name: &str, value: &str, is_from| {
            let given = Given { name: name.into(), values: vec![value.into()] };
            Options::check(&[given], is_from).expect_err("bad option").fields().message.clone()
        };
        assert_eq!(check("format", "xml", true), "COPY format \"xml\" not recognized");
        assert_eq!(check("quote", "x", true), "COPY quote available only in CSV mode");
        assert_eq!(
            check("delimiter", "ab", true),
            "COPY delimiter must be a single one-byte character"
        );
        assert_eq!(check("nonsense", "", true), "option \"nonsense\" not recognized");
    }
}
