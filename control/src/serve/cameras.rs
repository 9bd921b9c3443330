//! The threads that pull cameras, beside the workers that they feed.

use std::io;
use std::time::Instant;

use dataplane::driver::{Dataplane, Feeder};
use dataplane::id::SessionId;
use tokio::sync::mpsc;

use crate::camera::allow::Allowed;
use crate::camera::lane::{Lane, Outflow};
use crate::camera::limits::QUEUE;
use crate::config::CamerasConfig;
use crate::node::{LaneEvents, Millrace};

/// Workers for which there is one thread with cameras: it does less to a packet than they.
const WORKERS_PER_THREAD: usize = 2;

/// Threads that cameras are pulled on, and what they say.
pub(super) fn start(
    config: &CamerasConfig,
    dataplane: &Dataplane,
) -> io::Result<(Lane, LaneEvents)> {
    let threads = dataplane.workers().len().div_ceil(WORKERS_PER_THREAD);
    let outflow = |_| Box::new(Feeding(dataplane.feeder())) as Box<dyn Outflow>;
    let outflows = (0..threads).map(outflow).collect();
    let (said, events) = mpsc::channel(QUEUE);
    let lane = Lane::start(Allowed::new(config.allow.clone()), outflows, &said)?;
    Ok((lane, events))
}

/// Tells the node of its lane, and of the cameras that the configuration lists.
pub(super) fn open(node: &Millrace, lane: Lane, config: &CamerasConfig) {
    node.open_lane(move |order| lane.send(order));
    node.list_cameras(&config.listed);
}

/// A feeder as the lane knows it.
struct Feeding(Feeder);

impl Outflow for Feeding {
    fn send(&mut self, worker: usize, session: SessionId, arrived: Instant, packet: &[u8]) -> bool {
        self.0.send(worker, session, arrived, packet)
    }

    fn room(&mut self, worker: usize) -> usize {
        self.0.room(worker)
    }

    fn flush(&mut self) {
        self.0.flush();
    }
}
