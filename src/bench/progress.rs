//! Progress bars on the terminal; silent when the output goes elsewhere.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::Run;

const LOAD: &str = "{msg:14} [{bar:40}] {pos}/{len} rows, {per_sec}, {eta} left";
const RUN: &str = "{prefix:8} [{bar:40}] {elapsed} {msg}";
/// Of a run that ends by a count.
const COUNTED: &str = "{prefix:8} {elapsed} {msg}";
const TICK: Duration = Duration::from_secs(1);

/// A bar over the rows of a load.
#[must_use]
pub fn load_bar(rows: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(LOAD).expect("the template is valid");
    ProgressBar::new(rows).with_style(style.progress_chars("=> "))
}

/// Shows a run's time and its throughput, second by second, until the run ends or is dropped.
pub async fn show_run(run: Arc<Run>) {
    let template = if run.total() == Duration::MAX { COUNTED } else { RUN };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = ProgressBar::new(run.total().as_secs()).with_style(style.progress_chars("=> "));
    let mut before = 0;
    while !run.over() {
        tokio::time::sleep(TICK).await;
        let done = run.done();
        bar.set_position(run.elapsed().as_secs());
        bar.set_prefix(if run.warming_up() { "warm-up" } else { "run" });
        bar.set_message(format!("{} operations per second", done - before));
        before = done;
    }
    bar.finish_and_clear();
}
