//! Runs one permutation: steps are sent in its order, and a step that has to wait is left waiting
//! while the others go on.
//!
//! Whether a step waits or only takes its time is asked of the server: of the function that
//! PostgreSQL has for this very purpose, or, where that is missing, of `pg_locks`. A step that waits
//! is reported as `<waiting ...>`, and as `<... completed>` once it has ended.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::print;
use super::spec::{Blocker, Spec, Turn};
use super::wire::{Connection, Reply, Target};

/// How long to wait for a sign of life before asking whether the step is blocked.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until a step is given up that is blocked and on whose end the next step depends. Deadlocks
/// and timeouts, which can end such a wait, need far less.
const BLOCKED_LOOKS: u32 = 200;

/// Looks until a step is given up that does not end and isn't blocked either.
const LOOKS: u32 = 6000;

/// How the server tells that a session is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockedTest {
    /// `pg_isolation_test_session_is_blocked(pid, pids)`
    Function,
    /// A lock in `pg_locks` that isn't granted.
    Locks,
}

/// The connections for a spec.
pub struct Runner<'a> {
    spec: &'a Spec,
    target: &'a Target,
    name: String,
    control: Connection,
    sessions: Vec<Lane>,
    blocked_test: BlockedTest,
    out: String,
    ended: Vec<Ended>,
}

struct Lane {
    connection: Connection,
    active: Option<Active>,
    notices: u32,
}

#[derive(Clone, Debug)]
struct Active {
    turn: Turn,
    /// Notices of each blocking session at which it is held back no longer.
    targets: Vec<u32>,
}

/// What came of a permutation.
#[derive(Clone, Debug, Default)]
pub struct Play {
    /// All that PostgreSQL's own runner would print.
    pub text: String,
    /// The steps, in the order in which they ended.
    pub ended: Vec<Ended>,
}

/// A step that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Of which session.
    pub session: usize,
    /// What it answered.
    pub text: String,
    /// The SQLSTATE, if it failed.
    pub code: Option<String>,
}

/// May a step be left waiting, and has it been reported as waiting already?
#[derive(Clone, Copy)]
struct Try {
    may_wait: bool,
    again: bool,
}

impl<'a> Runner<'a> {
    /// Connects once for control and once for each session.
    pub fn open(spec: &'a Spec, target: &'a Target, name: &str) -> Result<Self> {
        let application = format!("isolation/{name}");
        let mut control = Connection::open(target, &format!("{application}/control connection"))?;
        let probe = "SELECT pg_catalog.pg_isolation_test_session_is_blocked(0, '{0}')";
        let blocked_test = match control.run(probe)?[..] {
            [Reply::Rows(..)] => BlockedTest::Function,
            _ => BlockedTest::Locks,
        };
        let mut sessions = Vec::new();
        for session in &spec.sessions {
            let application = format!("{application}/{}", session.name);
            let connection = Connection::open(target, &application)?;
            sessions.push(Lane { connection, active: None, notices: 0 });
        }
        let (name, out) = (name.to_owned(), String::new());
        Ok(Runner { spec, target, name, control, sessions, blocked_test, out, ended: Vec::new() })
    }

    /// How this server tells that a session is blocked.
    pub fn blocked_test(&self) -> BlockedTest {
        self.blocked_test
    }

    /// Runs a permutation; the answer is what PostgreSQL's own runner would print. Where that one
    /// would end, the connections are made anew, so that the next permutation finds nothing of this.
    pub fn run(&mut self, permutation: &[Turn]) -> Result<Play> {
        self.ended.clear();
        self.out = format!("starting permutation: {}\n", self.spec.title(permutation));
        if let Err(error) = self.steps(permutation) {
            writeln!(self.out, "{error:#}")?;
            self.reconnect()?;
        }
        for (at, session) in self.spec.sessions.iter().enumerate() {
            if let Some(sql) = &session.teardown {
                self.around(Some(at), sql, "teardown")?;
            }
        }
        if let Some(sql) = &self.spec.teardown {
            self.around(None, sql, "teardown")?;
        }
        if self.sessions.iter().any(|lane| lane.connection.is_gone()) {
            self.reconnect()?;
        }
        let ended = std::mem::take(&mut self.ended);
        Ok(Play { text: std::mem::take(&mut self.out), ended })
    }

    fn reconnect(&mut self) -> Result<()> {
        let (out, ended) = (std::mem::take(&mut self.out), std::mem::take(&mut self.ended));
        // Sessions that wait are cancelled first, since a server may not see that a client has left.
        for lane in self.sessions.iter().filter(|lane| lane.active.is_some()) {
            lane.connection.cancel()?;
        }
        let name = self.name.clone();
        *self = Runner::open(self.spec, self.target, &name)?;
        (self.out, self.ended) = (out, ended);
        Ok(())
    }

    fn steps(&mut self, permutation: &[Turn]) -> Result<()> {
        for sql in &self.spec.setups {
            self.around(None, sql, "setup")?;
        }
        for (at, session) in self.spec.sessions.iter().enumerate() {
            if let Some(sql) = &session.setup {
                self.around(Some(at), sql, "setup")?;
            }
        }
        let mut waiting: Vec<usize> = Vec::new();
        for turn in permutation {
            self.free(turn.session, &mut waiting)?;
            let targets = turn.blockers.iter().map(|blocker| match blocker {
                Blocker::Notices(session, n) => self.sessions[*session].notices + n,
                _ => 0,
            });
            let active = Active { turn: turn.clone(), targets: targets.collect() };
            let lane = &mut self.sessions[turn.session];
            lane.connection.send(&self.spec.step(turn).sql)?;
            lane.active = Some(active);
            let must_wait =
                self.try_complete(turn.session, Try { may_wait: true, again: false })?;
            self.try_all(&mut waiting, true)?;
            if must_wait {
                waiting.push(turn.session);
            }
        }
        self.try_all(&mut waiting, false)?;
        if !waiting.is_empty() {
            bail!("failed to complete permutation due to mutually-blocking steps");
        }
        Ok(())
    }

    /// Waits until a session's earlier step is done.
    fn free(&mut self, session: usize, waiting: &mut Vec<usize>) -> Result<()> {
        for _ in 0..LOOKS {
            if self.sessions[session].active.is_none() {
                return Ok(());
            }
            if !self.try_complete(session, Try { may_wait: false, again: true })? {
                waiting.retain(|other| *other != session);
            }
            self.try_all(waiting, true)?;
            if self.sessions[session].active.is_some() {
                std::thread::sleep(LOOK);
            }
        }
        bail!("a step never ends; its blockers may be wrong")
    }

    /// Looks at all that wait, again as long as one that ends, or a notice, may free another.
    fn try_all(&mut self, waiting: &mut Vec<usize>, may_wait: bool) -> Result<()> {
        loop {
            let (before, notices) = (waiting.len(), self.notices());
            let mut held_back = false;
            let mut at = 0;
            while at < waiting.len() {
                let session = waiting[at];
                if self.try_complete(session, Try { may_wait, again: true })? {
                    let active = self.sessions[session].active.as_ref();
                    held_back |= active.is_some_and(|a| !a.turn.blockers.is_empty());
                    at += 1;
                } else {
                    waiting.remove(at);
                }
            }
            if !held_back || (waiting.len() == before && self.notices() == notices) {
                return Ok(());
            }
        }
    }

    fn notices(&self) -> u32 {
        self.sessions.iter().map(|lane| lane.notices).sum()
    }

    /// Reports a session's step if it has ended; `true` = it goes on waiting.
    fn try_complete(&mut self, session: usize, how: Try) -> Result<bool> {
        let active = self.sessions[session].active.clone().context("no step to complete")?;
        let step = self.spec.step(&active.turn);
        let waits = format!("step {}: {} <waiting ...>\n", step.name, step.sql);
        if !how.again && active.turn.blockers.contains(&Blocker::Once) {
            self.out += &waits;
            return Ok(true);
        }
        let (mut looks, mut blocked) = (0, 0);
        while self.sessions[session].connection.busy() {
            let came = self.pump(session, LOOK)?;
            if came || !self.sessions[session].connection.busy() {
                continue;
            }
            looks += 1;
            let is_blocked = self.is_blocked(session)?;
            blocked += u32::from(is_blocked);
            if how.may_wait && is_blocked {
                // Messages may have come while that was asked.
                self.pump(session, Duration::from_millis(1))?;
                if !self.sessions[session].connection.busy() {
                    break;
                }
                if !how.again {
                    self.out += &waits;
                }
                return Ok(true);
            }
            if blocked > BLOCKED_LOOKS || looks > LOOKS {
                self.sessions[session].connection.cancel()?;
                let what = if blocked > 0 { "stays blocked" } else { "does not end" };
                bail!("step {} {what}", step.name);
            }
        }
        if self.held_back(&active) {
            if !how.again {
                self.out += &waits;
            }
            return Ok(true);
        }
        match how.again {
            true => writeln!(self.out, "step {}: <... completed>", step.name)?,
            false => writeln!(self.out, "step {}: {}", step.name, step.sql)?,
        }
        self.report(session);
        self.sessions[session].active = None;
        Ok(false)
    }

    fn held_back(&self, active: &Active) -> bool {
        active.turn.blockers.iter().zip(&active.targets).any(|(blocker, target)| match blocker {
            Blocker::Once => false,
            Blocker::Notices(session, _) => self.sessions[*session].notices < *target,
            Blocker::Step(session, step) => {
                let other = self.sessions[*session].active.as_ref();
                other.is_some_and(|a| (a.turn.session, a.turn.step) == (*session, *step))
            }
        })
    }

    /// Takes in what a session has sent; its notices are printed as they come.
    fn pump(&mut self, session: usize, wait: Duration) -> Result<bool> {
        let lane = &mut self.sessions[session];
        let came = lane.connection.pump(wait)?;
        self.take_notices(session);
        Ok(came)
    }

    fn take_notices(&mut self, session: usize) {
        let lane = &mut self.sessions[session];
        for notice in lane.connection.notices.drain(..) {
            lane.notices += 1;
            self.out += &format!("{}: {notice}", self.spec.sessions[session].name);
        }
    }

    fn is_blocked(&mut self, session: usize) -> Result<bool> {
        let pid = self.sessions[session].connection.pid;
        let query = match self.blocked_test {
            BlockedTest::Function => {
                let pids: Vec<String> =
                    self.sessions.iter().map(|l| l.connection.pid.to_string()).collect();
                format!(
                    "SELECT pg_catalog.pg_isolation_test_session_is_blocked({pid}, '{{{}}}')",
                    pids.join(",")
                )
            }
            BlockedTest::Locks => format!(
                "SELECT count(*) > 0 FROM pg_catalog.pg_locks WHERE pid = {pid} AND NOT granted"
            ),
        };
        match &self.control.run(&query)?[..] {
            [Reply::Rows(_, rows)] => Ok(rows[0][0].as_deref() == Some("t")),
            other => bail!("cannot ask whether a step is blocked: {other:?}"),
        }
    }

    fn report(&mut self, session: usize) {
        let replies = std::mem::take(&mut self.sessions[session].connection.replies);
        let text: String = replies.iter().map(text_of).collect();
        let code = replies.iter().find_map(|reply| match reply {
            Reply::Error(_, code, _) => Some(code.clone()),
            Reply::Gone => Some("08006".to_owned()),
            _ => None,
        });
        self.out += &text;
        self.ended.push(Ended { session, text, code });
        let notifications = std::mem::take(&mut self.sessions[session].connection.notifications);
        for (channel, payload, pid) in notifications {
            let sender = self.sessions.iter().position(|lane| lane.connection.pid == pid);
            let sender = sender.map_or("another session", |at| &self.spec.sessions[at].name);
            self.out += &format!(
                "{}: NOTIFY \"{channel}\" with payload \"{payload}\" from {sender}\n",
                self.spec.sessions[session].name
            );
        }
    }

    /// Runs a setup or a teardown, on a session or on the control connection (whose notices nobody
    /// wants to see).
    fn around(&mut self, session: Option<usize>, sql: &str, what: &str) -> Result<()> {
        let connection = match session {
            Some(at) => &mut self.sessions[at].connection,
            None => &mut self.control,
        };
        connection.send(sql)?;
        for _ in 0..BLOCKED_LOOKS {
            if connection.busy() {
                connection.pump(LOOK)?;
            }
        }
        if connection.busy() {
            // The sessions stand in the way: what they have open has to go.
            connection.cancel()?;
            connection.finish()?;
            connection.replies.clear();
            self.out += &format!("{what} stays blocked\n");
            self.reconnect()?;
            self.control.run(sql)?;
            return Ok(());
        }
        let replies = std::mem::take(&mut connection.replies);
        match session {
            Some(at) => self.take_notices(at),
            None => self.control.notices.clear(),
        }
        match replies.last() {
            Some(Reply::Rows(names, rows)) => self.out += &print::table(names, rows),
            Some(reply @ (Reply::Error(..) | Reply::Gone)) => {
                let of = session.map(|at| format!(" of session {}", self.spec.sessions[at].name));
                let text = format!("{what}{} failed: {}", of.unwrap_or_default(), text_of(reply));
                if what == "setup" {
                    bail!("{}", text.trim_end());
                }
                self.out += &text;
            }
            _ => {}
        }
        Ok(())
    }
}

fn text_of(reply: &Reply) -> String {
    match reply {
        Reply::Rows(names, rows) => print::table(names, rows),
        Reply::Done => String::new(),
        Reply::Error(severity, _, message) => format!("{severity}:  {message}\n"),
        Reply::Gone => "server closed the connection unexpectedly\n\
                        \tThis probably means the server terminated abnormally\n\
                        \tbefore or while processing the request.\n\n"
            .to_owned(),
    }
}
