//! What the benchmarks share: clocks, tables, a call with known keys, the floor program, and a rig
//! of real sockets. [`peers`] and [`swarm`] are what `millrace-load` is made of.
//!
//! Each file under `benches/` asks one question and prints its tables; with `-- --json` it prints
//! one JSON object per row instead. Times are CPU time of the thread that does the work, medians
//! of several rounds; a ratio compares two programs measured in turn in the same run.
//!
//! In reading order:

pub mod allocations;
pub mod cpu;
pub mod table;

pub mod call;
pub mod floor;
pub mod publisher;

pub mod engine;

pub mod crowd;
pub mod node;
pub mod rig;
pub mod server;
pub mod socket;

pub mod bare;
pub mod peers;
pub mod swarm;

pub mod plot;
pub mod rates;
