//! Prints `compat-tests/results/placement.md`: what a node costs in clusters of different sizes.

use meridian_sim::placement::scale;

/// Ranges for each node; 100 nodes have 100,000.
const RANGES: u64 = 1_000;

const HEAD: &str = "# Clusters of different sizes, simulated

Written by `cargo run --release -p meridian-sim --example placement`: the planner of copies, liveness and
leases as they are, a thousand ranges a node with three copies each (`src/sim/placement/scale.rs`).

- *Partners*: most nodes that one shares ranges with. Copies of a range stay in a cell of at most 16 nodes.
- *Messages*, *KiB*, *CPU*: heartbeats and their answers that a node sends in a second, and what they and its
  leases cost a node. *Everywhere*: the messages if copies could be on any nodes.
- *Reports*: messages in a second that the planner's node has beside those.
- *Plan*: CPU of a plan for all ranges when nothing is to be done, and of the longest one; it is made every ten seconds.
- *Joined*: copies moved when one more node comes, and how many it needs at least to be within the band of
  5 % around its share. Where a cell is halved by it, others move, too.
- *Fullest*: then, against the mean.
- *Died*: copies made when a node is dead, and those that it had.

| nodes | ranges | partners | messages/node/s | everywhere | KiB/node/s | CPU µs/node/s | reports/s | plan ms | longest | joined: moved | least | fullest | died: made | had |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
";

#[expect(clippy::print_stdout, reason = "its output is the table")]
fn main() {
    print!("{HEAD}");
    for nodes in [3, 4, 8, 12, 16, 24, 32, 50, 75, 100] {
        let row = scale::measure(nodes, RANGES);
        println!(
            "| {} | {} | {} | {:.0} | {} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {} | {} | {:.2} | {} | {} |",
            row.nodes,
            row.ranges,
            row.partners,
            row.messages,
            (row.nodes - 1) * 20,
            row.bytes / 1024.0,
            row.cpu_us,
            row.reports,
            row.plan_ms,
            row.plan_max_ms,
            row.joined.0,
            row.joined.1,
            row.fullest,
            row.replaced.0,
            row.replaced.1,
        );
    }
}
