//! A connection that shows when each message comes: the simple protocol over a plain socket.
//!
//! Clients hide what this test is about: is a statement still under way, and which messages came
//! before its end? So a text is sent, and [`Connection::pump`] takes in what has arrived. Only
//! servers that trust the client are spoken to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Where to connect to, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Host and port.
    pub address: String,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
}

impl Target {
    /// Takes a URL apart: `postgresql://user@host:port/database?…`
    pub fn parse(url: &str) -> Result<Target> {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split('?').next().unwrap_or(rest);
        let (place, database) = rest.split_once('/').unwrap_or((rest, "postgres"));
        let (user, address) = place.split_once('@').unwrap_or(("postgres", place));
        if user.contains(':') {
            bail!("a password is of no use: only servers that trust the client are spoken to");
        }
        Ok(Target {
            address: address.to_owned(),
            user: user.to_owned(),
            database: database.to_owned(),
        })
    }
}

/// What a statement answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Columns' names and rows; `None` = NULL.
    Rows(Vec<String>, Vec<Vec<Option<String>>>),
    /// Done, without rows.
    Done,
    /// Severity, SQLSTATE and message.
    Error(String, String, String),
    /// The connection is gone.
    Gone,
}

/// Columns' names, and rows; `None` = NULL.
type Rows = (Vec<String>, Vec<Vec<Option<String>>>);

/// A notification: channel, payload, the sender's process id.
pub type Notification = (String, String, i32);

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    target: Target,
    input: Vec<u8>,
    /// The server's process id for it.
    pub pid: i32,
    secret: Vec<u8>,
    busy: bool,
    gone: bool,
    open_rows: Option<Rows>,
    /// Replies to the text that was sent last.
    pub replies: Vec<Reply>,
    /// Messages (NOTICE and the like) since they were last taken away, as psql shows them.
    pub notices: VecDeque<String>,
    /// Notifications since they were last taken away.
    pub notifications: VecDeque<Notification>,
}

fn frame(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = kind.into_iter().collect();
    out.extend(u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(body);
    out
}

/// Reads numbers and texts off a message.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn bytes(&mut self, n: usize) -> Result<&[u8]> {
        let (head, tail) = self.0.split_at_checked(n).context("a message is too short")?;
        self.0 = tail;
        Ok(head)
    }

    fn int2(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.bytes(2)?.try_into()?))
    }

    fn int4(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|b| *b == 0).context("a text has no end")?;
        let text = String::from_utf8_lossy(self.bytes(end)?).into_owned();
        self.bytes(1)?;
        Ok(text)
    }

    /// The fields of an error or a notice.
    fn field(&self, wanted: u8) -> Option<String> {
        let mut rest = Body(self.0);
        loop {
            let code = rest.bytes(1).ok()?[0];
            let text = if code == 0 { return None } else { rest.text().ok()? };
            if code == wanted {
                return Some(text);
            }
        }
    }
}

impl Connection {
    /// Connects under an application name, with the settings that regression tests are run with.
    pub fn open(target: &Target, application: &str) -> Result<Connection> {
        let socket = TcpStream::connect(&target.address)
            .with_context(|| format!("cannot connect to {}", target.address))?;
        socket.set_nodelay(true)?;
        let mut body = 196_608u32.to_be_bytes().to_vec();
        let settings = [
            ("user", target.user.as_str()),
            ("database", &target.database),
            ("application_name", application),
            ("client_encoding", "UTF8"),
            ("DateStyle", "Postgres, MDY"),
            ("TimeZone", "PST8PDT"),
            ("IntervalStyle", "postgres_verbose"),
        ];
        for (name, value) in settings {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        let mut connection = Connection {
            socket,
            target: target.clone(),
            input: Vec::new(),
            pid: 0,
            secret: Vec::new(),
            busy: true,
            gone: false,
            open_rows: None,
            replies: Vec::new(),
            notices: VecDeque::new(),
            notifications: VecDeque::new(),
        };
        connection.socket.write_all(&frame(None, &body))?;
        connection.finish()?;
        connection.notices.clear();
        match connection.replies.pop() {
            None => Ok(connection),
            Some(reply) => bail!("cannot connect: {reply:?}"),
        }
    }

    /// Sends a text; [`Self::pump`] takes the answers.
    pub fn send(&mut self, sql: &str) -> Result<()> {
        self.replies.clear();
        self.busy = true;
        let message = frame(Some(b'Q'), &[sql.as_bytes(), b"\0"].concat());
        if self.socket.write_all(&message).is_err() {
            self.gone();
        }
        Ok(())
    }

    /// Is the text that was sent last still under way?
    pub fn busy(&self) -> bool {
        self.busy
    }

    /// Takes in what has arrived, and waits for it so long if nothing has; did anything come?
    pub fn pump(&mut self, wait: Duration) -> Result<bool> {
        self.socket.set_read_timeout(Some(wait))?;
        let mut chunk = [0; 16384];
        match self.socket.read(&mut chunk) {
            Ok(0) => self.gone(),
            Ok(n) => self.input.extend(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(_) => self.gone(),
        }
        while let Some(head) = self.input.first_chunk::<5>() {
            let length = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if self.input.len() < length {
                break;
            }
            let message: Vec<u8> = self.input.drain(..length).collect();
            self.message(message[0], Body(&message[5..]))?;
        }
        Ok(true)
    }

    /// Waits for the end of what is under way.
    pub fn finish(&mut self) -> Result<()> {
        while self.busy {
            self.pump(Duration::from_secs(1))?;
        }
        Ok(())
    }

    /// Runs a text to its end.
    pub fn run(&mut self, sql: &str) -> Result<Vec<Reply>> {
        self.send(sql)?;
        self.finish()?;
        Ok(std::mem::take(&mut self.replies))
    }

    /// Asks the server to cancel what is under way.
    pub fn cancel(&self) -> Result<()> {
        let mut socket = TcpStream::connect(&self.target.address)?;
        let body =
            [&80_877_102u32.to_be_bytes()[..], &self.pid.to_be_bytes()[..], &self.secret].concat();
        Ok(socket.write_all(&frame(None, &body))?)
    }

    fn gone(&mut self) {
        if self.busy {
            self.replies.push(Reply::Gone);
        }
        self.busy = false;
        self.gone = true;
    }

    /// Has the server closed it?
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    fn message(&mut self, kind: u8, mut body: Body<'_>) -> Result<()> {
        match kind {
            b'R' => match body.int4()? {
                0 => {}
                _ => bail!("the server wants a password"),
            },
            b'K' => {
                self.pid = body.int4()?;
                self.secret = body.0.to_vec();
            }
            b'T' => {
                let mut names = Vec::new();
                for _ in 0..body.int2()? {
                    names.push(body.text()?);
                    body.bytes(18)?;
                }
                self.open_rows = Some((names, Vec::new()));
            }
            b'D' => {
                let mut row = Vec::new();
                for _ in 0..body.int2()? {
                    row.push(match usize::try_from(body.int4()?) {
                        Ok(n) => Some(String::from_utf8_lossy(body.bytes(n)?).into_owned()),
                        Err(_) => None,
                    });
                }
                self.open_rows.as_mut().context("a row without columns")?.1.push(row);
            }
            b'C' | b'I' => {
                let rows = self.open_rows.take();
                self.replies
                    .push(rows.map_or(Reply::Done, |(names, rows)| Reply::Rows(names, rows)));
            }
            b'E' => {
                self.open_rows = None;
                let field = |code| body.field(code).unwrap_or_default();
                self.replies.push(Reply::Error(field(b'S'), field(b'C'), field(b'M')));
            }
            b'N' => self.notices.push_back(notice(&body)),
            b'A' => {
                let pid = body.int4()?;
                let notification = (body.text()?, body.text()?, pid);
                self.notifications.push_back(notification);
            }
            b'G' => self.socket.write_all(&frame(Some(b'f'), b"no data\0"))?,
            b'Z' => self.busy = false,
            _ => {}
        }
        Ok(())
    }
}

/// A message's text with its detail and hint, each on a line.
fn notice(body: &Body<'_>) -> String {
    let field = |code| body.field(code).unwrap_or_default();
    let mut text = format!("{}:  {}\n", field(b'S'), field(b'M'));
    for (code, word) in [(b'D', "DETAIL"), (b'H', "HINT")] {
        if let Some(more) = body.field(code) {
            text += &format!("{word}:  {more}\n");
        }
    }
    text
}
