//! The lane of cameras against cameras: GStreamer's RTSP server, and a scripted one that does what no camera should.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod nasty;
mod real;
#[path = "../harness/rtsp.rs"]
mod rtsp;
mod scripted;
