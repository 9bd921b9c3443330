//! Cameras: RTSP sources (RFC 2326) as people in a room.
//!
//! ```text
//!  camera ─ RTSP ─► lane (threads of its own) ─ packets ─► dataplane::driver::Feeder ─► engine
//!                    │ LaneEvent      ▲ Order
//!                    ▼                │
//!                   Cameras: which there are, who watches ─► room
//! ```

// What there is, and whether it is pulled.
pub mod cameras;

// How cameras are described.
pub mod carried;
pub mod description;
pub mod file;

// What they are, and how much of it.
pub mod limits;
pub mod order;
pub mod stream;
pub mod url;

// What a camera sends, made acceptable to browsers.
pub mod repack;

// Where a camera may be.
pub mod allow;

// The RTSP side.
pub mod lane;
