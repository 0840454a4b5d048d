//! Golden scripts: stories of transactions, told in `testscripts/<machine>/<claim>`.
//!
//! A script is a sequence of blocks, `commands`, `---`, `what happened`, with an empty line between;
//! `#` begins a comment. The file's name is the claim. After every command all machines check their
//! invariants. To accept what happens now (and then read the difference!):
//!
//! ```text
//! UPDATE_SCRIPTS=1 cargo test -p meridian-kv scripts
//! ```

mod command;
mod world;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use command::Command;
use world::World;

/// Runs one script; answers its text with the outputs of this run.
fn run(text: &str, path: &Path) -> String {
    let mut world = World::default();
    let mut out = String::new();
    let mut in_output = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_end() {
            "---" => {
                in_output = true;
                writeln!(out, "---").expect("a String takes all");
                out.push_str(&world.take_output());
            }
            "" => {
                in_output = false;
                out.push('\n');
            }
            _ if in_output => {}
            line => {
                writeln!(out, "{line}").expect("a String takes all");
                if !line.starts_with('#') {
                    let command = Command::parse(line);
                    let at = || format!("{}:{}", path.display(), number + 1);
                    let command = command.unwrap_or_else(|| panic!("{}: what is {line}?", at()));
                    world.run(command);
                    world.check().unwrap_or_else(|broken| panic!("{}: {broken}", at()));
                }
            }
        }
    }
    assert!(world.take_output().is_empty(), "{}: output after the last ---", path.display());
    out
}

fn scripts(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        match path.is_dir() {
            true => scripts(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn scripts_tell_the_truth() {
    // The compiled path may be that of another clone with the same target directory.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = here.join("testscripts");
    let mut found = Vec::new();
    scripts(&root, &mut found);
    assert!(found.len() >= 12, "the scripts are where they belong");
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    for path in found {
        let told = fs::read_to_string(&path).unwrap();
        let happened = run(&told, &path);
        if update {
            fs::write(&path, &happened).unwrap();
        }
        assert!(update || told == happened, "{}:\n{happened}", path.display());
    }
}
