//! Chaos: real processes under real load, and somebody who breaks things while it runs.
//!
//! A [`fleet::Fleet`] of nodes (one, or several that form a cluster) serves clients that run a
//! [`workloads::Workload`], each step at a node of their own choice; a [`nemesis`] kills, pauses, cuts
//! off, fills and moves. Every client writes down what it asked and what it was told; what it does not
//! know (the connection was lost while a commit was on its way) it does not claim. When the world is
//! whole again the workload reads all there is and judges:
//!
//! | workload | what must hold |
//! |---|---|
//! | append | Elle's anomalies over lists, for each transaction those that its level forbids |
//! | register | single rows are linearizable |
//! | bank | money is neither made nor lost, not even for a reader's eye |
//! | long-fork | two readers agree in which order two inserts came |
//! | set | what was acknowledged is there, what was refused isn't, and reads are recent |
//! | sequential | who sees a client's later write sees its earlier ones |
//! | monotonic | a counter grows with real time, without gaps |
//! | write-skew | of two serializable transactions that exclude each other, one |
//! | default-value | a column that comes with a default is never seen without; nobody is disturbed |
//!
//! Order in time is by a counter of the test's own, never by a clock.

pub mod client;
pub mod fleet;
pub mod gap;
pub mod idle;
pub mod load;
pub mod nemesis;
pub mod net;
pub mod run;
pub mod workloads;

use std::sync::atomic::{AtomicU64, Ordering};

/// Ticks: what is asked after an answer came has the greater one.
#[derive(Debug, Default)]
pub struct Ticks(AtomicU64);

impl Ticks {
    /// The next tick.
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}
