//! What every other layer stands on: identifiers, time, randomness, keys and their byte order.
//!
//! Nothing here does I/O beyond reading the clock, and nothing here knows of ranges, rows or SQL.
//! The crate exists so that the few facts that *all* layers must agree on have one home:
//!
//! * [`Timestamp`] and [`Hlc`]: one total order of writes, close to wall time ([`hlc`]);
//! * [`clock`] and [`rng`]: the only doors to real time and real randomness, so that a simulator
//!   can stand behind them;
//! * [`keys`]: how a logical key becomes a physical one in the engine;
//! * [`encoding`]: values as bytes whose order is the values' order;
//! * [`limits`]: every bound of the system with its reason.
//!
//! **Invariant:** no dependency on any other crate of the workspace.

pub mod clock;
pub mod encoding;
pub mod hlc;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod rng;
pub mod sched;
mod timestamp;

pub use clock::{Clock, Instant, ManualClock, SystemClock, WrongClock};
pub use hlc::Hlc;
pub use ids::{NodeId, RangeId};
pub use keys::Span;
pub use rng::Rng;
pub use timestamp::Timestamp;
