//! PostgreSQL's isolation specs, and our own, against Meridian; and against PostgreSQL, to show that
//! it is not the runner that differs.
//!
//! Each spec runs in a database of its own; each of its permutations is held against what PostgreSQL
//! prints for it. The table goes to `results/isolation.md` beside this crate's manifest.
//!
//! ```text
//! cargo run --release -p compat-tests --bin isolation -- [--verbose] [--only-ours] [spec …]
//! ```
//! `--meridian URL` and `--postgres URL` take servers that run already, `--suite FOLDER` PostgreSQL's
//! specs (`../shared/suites/pgisolation` if not given; left out, by name, where they are missing),
//! `--out FOLDER` a place for all that was printed. With names of specs no table is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use compat_tests::isolation::score::difference;
use compat_tests::isolation::serial;
use compat_tests::isolation::{BlockedTest, Expected, Runner, Spec, Target, Verdict};
use compat_tests::{Meridian, Options, Postgres};

#[derive(Debug, Default)]
struct Arguments {
    meridian: Option<String>,
    postgres: Option<String>,
    suite: Option<PathBuf>,
    out: Option<PathBuf>,
    verbose: bool,
    only_ours: bool,
    names: Vec<String>,
}

impl Arguments {
    fn read() -> Result<Arguments> {
        let mut arguments = Arguments::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--meridian" => arguments.meridian = Some(value()?),
                "--postgres" => arguments.postgres = Some(value()?),
                "--suite" => arguments.suite = Some(value()?.into()),
                "--out" => arguments.out = Some(value()?.into()),
                "--verbose" => arguments.verbose = true,
                "--only-ours" => arguments.only_ours = true,
                _ => arguments.names.push(word),
            }
        }
        Ok(arguments)
    }
}

/// A folder of specs: `specs/NAME.spec`, `expected/NAME.out`.
struct Suite {
    title: &'static str,
    folder: PathBuf,
    names: Vec<String>,
}

impl Suite {
    fn open(title: &'static str, folder: &Path, wanted: &[String]) -> Result<Suite> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder.join("specs"))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            names.extend(file.strip_suffix(".spec").map(str::to_owned));
        }
        names.retain(|name| wanted.is_empty() || wanted.contains(name));
        names.sort();
        Ok(Suite { title, folder: folder.to_owned(), names })
    }
}

/// How a server did in a spec.
#[derive(Debug, Default)]
struct Tally {
    permutations: usize,
    same: usize,
    victims: usize,
    missing: usize,
    different: usize,
    refusals: BTreeSet<String>,
    /// Set when the spec could not be run at all.
    failure: Option<String>,
    printed: String,
    differences: String,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.permutations += other.permutations;
        self.same += other.same;
        self.victims += other.victims;
        self.missing += other.missing;
        self.different += other.different;
    }

    /// The share of what could be run.
    fn ratio(&self) -> String {
        let of = self.permutations - self.missing;
        if of == 0 {
            return "–".to_owned();
        }
        format!("{:.1} %", 100.0 * (self.same + self.victims) as f64 / of as f64)
    }
}

/// A server and the way in which it tells that a session is blocked.
struct Server {
    admin: Target,
    blocked_test: Option<BlockedTest>,
}

impl Server {
    fn run(&mut self, suite: &Suite, name: &str) -> Tally {
        let mut tally = Tally::default();
        if let Err(error) = self.run_spec(suite, name, &mut tally) {
            tally.failure = Some(format!("{error:#}"));
            tally.different = tally.permutations - tally.same - tally.victims - tally.missing;
        }
        tally
    }

    fn run_spec(&mut self, suite: &Suite, name: &str, tally: &mut Tally) -> Result<()> {
        let text =
            std::fs::read_to_string(suite.folder.join("specs").join(format!("{name}.spec")))?;
        let spec = Spec::parse(&text)?;
        let expected = Expected::read(&suite.folder.join("expected"), name)?;
        tally.permutations = spec.permutations.len();
        let target = self.new_database()?;
        let mut runner = Runner::open(&spec, &target, name)?;
        self.blocked_test = Some(runner.blocked_test());
        let serializable = text.to_lowercase().contains("serializable");
        let mut occurrences: BTreeMap<String, usize> = BTreeMap::new();
        tally.printed = format!("Parsed test spec with {} sessions\n", spec.sessions.len());
        for permutation in &spec.permutations {
            let title = spec.title(permutation);
            let occurrence = occurrences.entry(title.clone()).or_default();
            let play = runner.run(permutation)?;
            let printed = &play.text;
            tally.printed += &format!("\n{printed}");
            let mut verdict = expected.judge(&title, *occurrence, printed);
            if verdict == Verdict::Different
                && serializable
                && serial::fits(&mut runner, &spec, permutation, &play)?
            {
                verdict = Verdict::OtherVictim;
            }
            match verdict {
                Verdict::Same => tally.same += 1,
                Verdict::OtherVictim => tally.victims += 1,
                Verdict::Missing(what) => {
                    tally.missing += 1;
                    tally.refusals.insert(what);
                }
                Verdict::Different => {
                    tally.different += 1;
                    let texts = expected.texts(&title, *occurrence);
                    let text = texts.first().map_or("", String::as_str);
                    tally.differences += &format!("{title}\n{}", difference(text, printed));
                }
            }
            *occurrence += 1;
        }
        Ok(())
    }

    /// An empty database under the name that PostgreSQL's own runner gives it.
    fn new_database(&self) -> Result<Target> {
        let database = "isolation_regression".to_owned();
        let mut connection =
            compat_tests::isolation::wire::Connection::open(&self.admin, "isolation")?;
        connection.run(&format!("DROP DATABASE IF EXISTS {database}"))?;
        connection.run(&format!("CREATE DATABASE {database}"))?;
        Ok(Target { database, ..self.admin.clone() })
    }
}

#[expect(clippy::print_stdout, reason = "the program's report")]
fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let here = compat_tests::here();
    let theirs = arguments.suite.clone().unwrap_or_else(|| "../shared/suites/pgisolation".into());
    let mut suites = Vec::new();
    if theirs.join("specs").is_dir() && !arguments.only_ours {
        suites.push(Suite::open("PostgreSQL's specs", &theirs, &arguments.names)?);
    } else {
        println!("LEFT OUT: PostgreSQL's specs ({})", theirs.display());
    }
    suites.push(Suite::open("Our own specs", &here.join("isolation"), &arguments.names)?);

    let (started_meridian, started_postgres);
    let meridian = match &arguments.meridian {
        Some(url) => url.clone(),
        None => {
            let options = Options { insecure: true, ..Options::default() };
            started_meridian = Meridian::start(options)?;
            started_meridian.url("postgres")
        }
    };
    let postgres = match &arguments.postgres {
        Some(url) => Some(url.clone()),
        None => {
            started_postgres = Postgres::start_with(&["max_prepared_transactions=8"])?;
            started_postgres.as_ref().map(|postgres| postgres.url("postgres"))
        }
    };
    let server = |url: &str| -> Result<Server> {
        Ok(Server { admin: Target::parse(url)?, blocked_test: None })
    };
    let mut ours = server(&meridian)?;
    let mut yardstick = postgres.as_deref().map(server).transpose()?;
    let mut report = String::new();
    for suite in &suites {
        report += &run_suite(suite, &mut ours, yardstick.as_mut(), &arguments)?;
    }
    if arguments.names.is_empty() && !arguments.only_ours {
        let text = format!("{}{report}{}", heading(), closing(&ours));
        let results = here.join("results");
        std::fs::create_dir_all(&results)?;
        std::fs::write(results.join("isolation.md"), text)?;
    }
    println!("{report}");
    Ok(())
}

fn heading() -> &'static str {
    "# Isolation specs\n\n\
     Written by `cargo run --release -p compat-tests --bin isolation`. A permutation is the same if all that\n\
     it prints is what PostgreSQL 15 prints: rows, messages, who waits and when.\n\n\
     - *Runner*: permutations that this runner finds the same on PostgreSQL 15.\n\
     - *Other victim*: SERIALIZABLE refused another transaction, or at another step; what those that\n  \
       committed saw was found again in a serial order of them, which was run to see.\n\
     - *Missing*: refused with \"is not supported yet\", or for a setting that there isn't.\n\
     - *Good of what exists*: same and other victim, of all but the missing.\n\n"
}

fn closing(ours: &Server) -> String {
    let how = match ours.blocked_test {
        Some(BlockedTest::Function) => "the function `pg_isolation_test_session_is_blocked`",
        _ => "a row of `pg_locks` that isn't granted",
    };
    format!("Meridian is asked whether a session is blocked by {how}.\n")
}

#[expect(clippy::print_stdout, reason = "the program's report")]
fn run_suite(
    suite: &Suite,
    ours: &mut Server,
    mut yardstick: Option<&mut Server>,
    arguments: &Arguments,
) -> Result<String> {
    let mut report = format!(
        "## {}\n\n| spec | permutations | runner | same | other victim | different | missing | good of what exists | missing |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---|\n",
        suite.title
    );
    let (mut sum, mut sum_runner) = (Tally::default(), 0);
    for name in &suite.names {
        let theirs = yardstick.as_mut().map(|server| server.run(suite, name));
        let own = ours.run(suite, name);
        let runner = theirs.as_ref().map_or("–".to_owned(), |tally| tally.same.to_string());
        sum_runner += theirs.as_ref().map_or(0, |tally| tally.same);
        sum.add(&own);
        let refusals: Vec<&str> = own.refusals.iter().map(String::as_str).collect();
        let row = format!(
            "| {name} | {} | {runner} | {} | {} | {} | {} | {} | {} |\n",
            own.permutations,
            own.same,
            own.victims,
            own.different,
            own.missing,
            own.ratio(),
            refusals.join("; ")
        );
        print!("{row}");
        report += &row;
        let sides = [("meridian", Some(&own)), ("postgres", theirs.as_ref())];
        for (side, tally) in sides.into_iter().filter_map(|(side, t)| Some((side, t?))) {
            if let Some(failure) = &tally.failure {
                println!("{side}: {name} was not run to its end: {failure}");
            }
            if arguments.verbose && !tally.differences.is_empty() {
                println!("{side}: {name}\n{}", tally.differences);
            }
            if let Some(out) = &arguments.out {
                let folder = out.join(side);
                std::fs::create_dir_all(&folder)?;
                std::fs::write(folder.join(format!("{name}.out")), &tally.printed)?;
            }
        }
    }
    report += &format!(
        "| **all** | **{}** | **{sum_runner}** | **{}** | **{}** | **{}** | **{}** | **{}** | |\n\n",
        sum.permutations,
        sum.same,
        sum.victims,
        sum.different,
        sum.missing,
        sum.ratio()
    );
    Ok(report)
}
