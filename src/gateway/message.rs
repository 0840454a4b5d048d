//! Bodies of frontend messages, read with every bound checked.

use meridian_types::{PgError, SqlState};
use smallvec::SmallVec;

use crate::frame::protocol_error;

/// Reads fields off a message body; what it gives borrows from the body.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { body, at: 0 }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, PgError> {
        let byte = *self.body.get(self.at).ok_or_else(short)?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, PgError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, PgError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, PgError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PgError> {
        let bytes = self.body[self.at..].first_chunk::<N>().ok_or_else(short)?;
        self.at += N;
        Ok(*bytes)
    }

    /// A text that ends with a zero byte.
    pub(crate) fn text(&mut self) -> Result<&'a str, PgError> {
        let rest = &self.body[self.at..];
        let end =
            memchr::memchr(0, rest).ok_or_else(|| protocol_error("invalid string in message"))?;
        let text = std::str::from_utf8(&rest[..end])
            .map_err(|e| invalid_utf8(&rest[..end], e.valid_up_to()))?;
        self.at += end + 1;
        Ok(text)
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], PgError> {
        let bytes = self.body[self.at..].get(..n).ok_or_else(short)?;
        self.at += n;
        Ok(bytes)
    }

    /// A count of things of at least `bytes_each`, refused when the body cannot hold them.
    pub(crate) fn count(&mut self, bytes_each: usize) -> Result<usize, PgError> {
        let n = u16::from_be_bytes(self.array()?) as usize;
        if n * bytes_each > self.body.len() - self.at {
            return Err(short());
        }
        Ok(n)
    }

    pub(crate) fn formats(&mut self) -> Result<SmallVec<[i16; 4]>, PgError> {
        let n = self.count(2)?;
        (0..n).map(|_| self.i16()).collect()
    }

    pub(crate) fn end(&self) -> Result<(), PgError> {
        if self.at == self.body.len() {
            Ok(())
        } else {
            Err(protocol_error("invalid message format"))
        }
    }
}

fn short() -> PgError {
    protocol_error("insufficient data left in message")
}

/// PostgreSQL's `22021`, naming the bytes of the first bad sequence.
pub(crate) fn invalid_utf8(bytes: &[u8], at: usize) -> PgError {
    let expected = match bytes[at] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    };
    let shown: Vec<String> =
        bytes[at..].iter().take(expected).map(|b| format!("0x{b:02x}")).collect();
    PgError::new(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")),
    )
}

/// What Bind carries.
#[derive(Debug)]
pub(crate) struct Bind<'a> {
    pub(crate) portal: &'a str,
    pub(crate) statement: &'a str,
    pub(crate) formats: SmallVec<[i16; 4]>,
    pub(crate) params: SmallVec<[Option<&'a [u8]>; 4]>,
    pub(crate) result_formats: SmallVec<[i16; 4]>,
}

impl<'a> Bind<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Result<Bind<'a>, PgError> {
        let mut r = Reader::new(body);
        let (portal, statement) = (r.text()?, r.text()?);
        let formats = r.formats()?;
        let n = r.count(4)?;
        let mut params = SmallVec::with_capacity(n);
        for _ in 0..n {
            params.push(match r.i32()? {
                -1 => None,
                len => Some(r.bytes(usize::try_from(len).map_err(|_| short())?)?),
            });
        }
        let result_formats = r.formats()?;
        r.end()?;
        if formats.len() > 1 && formats.len() != params.len() {
            return Err(protocol_error(format!(
                "bind message has {} parameter formats but {} parameters",
                formats.len(),
                params.len()
            )));
        }
        for format in formats.iter().chain(&result_formats) {
            if !matches!(format, 0 | 1) {
                return Err(PgError::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("unsupported format code: {format}"),
                ));
            }
        }
        Ok(Bind { portal, statement, formats, params, result_formats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_is_refused_when_counts_promise_more_than_the_body_holds() {
        for body in [
            &b"\0\0\0\0\xff\xff"[..],
            b"\0\0\0\0\0\x01\0\0\0\x05ab\0\0",
            b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
            b"\0\0",
            b"",
        ] {
            assert!(Bind::read(body).is_err(), "{body:?}");
        }
        let bind = Bind::read(b"p\0s\0\0\x01\0\x01\0\x01\0\0\0\x02ab\0\0").expect("valid");
        assert_eq!(bind.params[0], Some(&b"ab"[..]));
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
    }

    #[test]
    fn invalid_utf8_names_the_bytes() {
        let e = Reader::new(b"a\xc3\x28\0").text().expect_err("not UTF-8");
        assert_eq!(e.fields().message, "invalid byte sequence for encoding \"UTF8\": 0xc3 0x28");
    }
}
