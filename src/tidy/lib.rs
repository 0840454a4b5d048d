//! The repository checks itself: `cargo test -p tidy`.
//!
//! Each rule is one test in `tests/tidy.rs`, over the plain facts gathered here: the files of the
//! workspace, their lines, the manifests. A rule that has offenders from before it was made keeps
//! them in a list that may only get shorter.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path from the root, with slashes, and its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// For instance `src/kv/locks/mod.rs`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// The root of the repository. What cargo says when it runs this counts: the compiled path is that of another
/// clone, if that has built into the same target directory before.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).join("../..")
}

/// All files below the root with one of these extensions, hidden directories and `target` left out.
pub fn files(extensions: &[&str]) -> Vec<SourceFile> {
    let mut found = Vec::new();
    collect(&root(), "", extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, prefix: &str, extensions: &[&str], found: &mut Vec<SourceFile>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        let path = entry.path();
        let relative = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{relative}/"), extensions, found);
        } else if extensions.iter().any(|e| name.ends_with(&format!(".{e}")))
            && let Ok(text) = fs::read_to_string(&path)
        {
            found.push(SourceFile { path: relative, text });
        }
    }
}

/// The crates under `src/` with the names of their dependencies (`meridian-` taken off ours).
pub fn dependencies() -> BTreeMap<String, Vec<String>> {
    let manifests = files(&["toml"]);
    let manifests = manifests.iter().filter(|f| f.path.ends_with("/Cargo.toml"));
    manifests.filter(|f| f.path.starts_with("src/")).map(crate_dependencies).collect()
}

fn crate_dependencies(manifest: &SourceFile) -> (String, Vec<String>) {
    let name = manifest.path.trim_start_matches("src/").trim_end_matches("/Cargo.toml");
    let mut names = Vec::new();
    let mut in_dependencies = false;
    for line in manifest.text.lines() {
        if line.starts_with('[') {
            in_dependencies = line == "[dependencies]";
        } else if in_dependencies && let Some((key, _)) = line.split_once('=') {
            let key = key.trim().trim_end_matches(".workspace");
            names.push(key.trim_start_matches("meridian-").to_owned());
        }
    }
    (name.to_owned(), names)
}

/// The functions of a Rust file: first line (from 1), name and length in lines.
///
/// It counts from a line that begins a function to the closing brace in the same column, which
/// holds for code that rustfmt has laid out.
pub fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let Some(name) = function_name(body) else { continue };
        let close = format!("{}}}", " ".repeat(indent));
        let end = lines[i..]
            .iter()
            .position(|l| *l == close || (l.ends_with(';') && l.trim_start() == body));
        if let Some(length) = end {
            found.push((i + 1, name.to_owned(), length + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line;
    for word in ["pub(crate) ", "pub(super) ", "pub ", "const ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}
