//! What the benchmarks share: CPU clocks, tables, the floor program and a rig of real sockets.
//!
//! Each file under `benches/` asks one question and prints one table; with `-- --json` it prints
//! one JSON object per row instead. Times are CPU time of the thread that does the work, medians
//! of several rounds; a ratio compares two programs measured in turn in the same run.

pub mod cpu;
pub mod floor;
pub mod rig;
pub mod table;
