//! One binary for all tests from outside; each module is one theme. They share no server: a test
//! that starts a process owns it.

mod bad_input;
mod benchmarks;
mod cluster;
mod drain;
mod drivers;
mod durability;
mod memory;
mod past;
mod ranges;
mod sessions;
mod sql;
mod texts;
mod twophase;
mod worlds;
