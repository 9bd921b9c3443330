//! The RTSP side: threads of its own, on which cameras are connected to and their packets made acceptable.
//!
//! ```text
//!  Order ─► thread ─► Source ─ Life: when ─► dial ─► Gate ◄─ loopback ─► retina: DESCRIBE, SETUP, PLAY, keep-alive
//!                       │                            │ ▲
//!  LaneEvent ◄─ Camera ─┘                            │ └─ RTSP, interleaved packets, datagrams ─ camera
//!                                                    ▼
//!                                         Flow ─ Repack ─► Outflow
//! ```
//!
//! No sentence that leaves here repeats what a camera or a library said, so no credential can be in one.

mod camera;
mod datagrams;
mod description;
mod dial;
mod failure;
mod flow;
mod gate;
mod life;
mod message;
mod random;
mod source;
mod talk;
mod turnstile;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dataplane::id::SessionId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::allow::Allowed;
use super::limits::{FIGURES_EVERY, SOURCES_MAX};
use super::order::{CameraId, LaneEvent, LaneState, Order};
use camera::Camera;
use dial::Dialler;
use flow::{Flow, SharedOutflow};
use source::Source;
use turnstile::Turnstile;

/// How long cameras have for hanging up when the lane ends.
const END_TIME: Duration = Duration::from_secs(2);

/// Takes packets for the engine: dataplane's feeder, or a test's record.
pub trait Outflow: Send {
    /// One RTP or RTCP packet of a session. `false` where there is no room: it is lost.
    fn send(&mut self, worker: usize, session: SessionId, arrived: Instant, packet: &[u8]) -> bool;

    /// How many packets that worker takes now.
    fn room(&mut self, worker: usize) -> usize;

    /// That was all for now.
    fn flush(&mut self);
}

/// The threads. When it is dropped, cameras are hung up on, which takes two seconds at most, and the threads end.
#[derive(Debug)]
pub struct Lane {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    /// Unbounded, since what control asks for is: a few orders for each camera, of which it bounds the number.
    orders: Option<mpsc::UnboundedSender<Order>>,
    handle: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts a thread for each outflow. What is said of cameras goes to `events`; it is said again where there was no
    /// room, figures excepted.
    ///
    /// # Errors
    /// Where the system gives no thread, or no descriptors for one.
    pub fn start(
        allowed: Allowed,
        outflows: Vec<Box<dyn Outflow>>,
        events: &mpsc::Sender<(CameraId, LaneEvent)>,
    ) -> io::Result<Lane> {
        let mut threads = Vec::new();
        let dialler = Dialler::new(allowed);
        for (n, outflow) in outflows.into_iter().enumerate() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (orders, received) = mpsc::unbounded_channel();
            let (dialler, events) = (dialler.clone(), events.clone());
            let run = move || {
                let outflow = Rc::new(RefCell::new(outflow));
                let around = Rc::new(Surroundings {
                    dialler,
                    events,
                    outflow,
                });
                serve(&runtime, around, received);
            };
            let handle = std::thread::Builder::new()
                .name(format!("camera-{n}"))
                .spawn(run)?;
            threads.push(Thread {
                orders: Some(orders),
                handle: Some(handle),
            });
        }
        Ok(Lane { threads })
    }

    /// Asks for something. Orders for one camera are carried out in the order in which they are given.
    pub fn send(&self, order: Order) {
        let CameraId(id) = match &order {
            Order::Add { camera, .. }
            | Order::Want { camera, .. }
            | Order::Release { camera }
            | Order::Remove { camera } => *camera,
        };
        let count = self.threads.len().max(1) as u64;
        let thread = self.threads.get((id % count) as usize);
        if let Some(orders) = thread.and_then(|thread| thread.orders.as_ref()) {
            // A thread that is gone takes no cameras; it does not go before the lane is dropped.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.orders = None;
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // What made it panic was told when it happened.
                let _ = handle.join();
            }
        }
    }
}

/// What the cameras of a thread share.
struct Surroundings {
    dialler: Dialler,
    events: mpsc::Sender<(CameraId, LaneEvent)>,
    outflow: SharedOutflow,
}

fn serve(runtime: &Runtime, around: Rc<Surroundings>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let mut cameras: HashMap<CameraId, Rc<Camera>> = HashMap::new();
        let mut tasks = JoinSet::new();
        let mut names = Names::new();
        let turnstile = Turnstile::new();
        let mut figures = interval(FIGURES_EVERY);
        figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => on_order(order, &mut cameras, (&mut tasks, &mut names), &around, &turnstile),
                    None => break,
                },
                Some(ended) = tasks.join_next_with_id() => on_end(&ended, &mut names, &cameras),
                _ = figures.tick() => {
                    let now = gate::now();
                    for camera in cameras.values() {
                        camera.report();
                        camera.report_figures(now);
                    }
                }
            }
        }
        for camera in cameras.values() {
            camera.remove();
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        let _ = timeout(END_TIME, all).await;
    });
}

/// A source ended: its camera was removed, or there is a fault in us.
fn on_end(
    ended: &Result<(Id, ()), JoinError>,
    names: &mut Names,
    cameras: &HashMap<CameraId, Rc<Camera>>,
) {
    let id = match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    };
    let name = names.remove(&id);
    if let (Err(_), Some((camera, index))) = (ended, name)
        && let Some(camera) = cameras.get(&camera)
    {
        // It is not made again at once.
        let reason = "the node failed at this camera, by a fault of its own".to_owned();
        camera.on_state(index, LaneState::Refused { reason });
    }
}

/// Which source a task is.
type Names = HashMap<Id, (CameraId, usize)>;

fn on_order(
    order: Order,
    cameras: &mut HashMap<CameraId, Rc<Camera>>,
    (tasks, names): (&mut JoinSet<()>, &mut Names),
    around: &Rc<Surroundings>,
    turnstile: &Rc<Turnstile>,
) {
    match order {
        Order::Add {
            camera: id,
            mut spec,
        } => {
            spec.sources.truncate(SOURCES_MAX);
            let flow = || Rc::new(RefCell::new(Flow::new(around.outflow.clone())));
            let flows: Vec<_> = spec.sources.iter().map(|_| flow()).collect();
            let events = around.events.clone();
            let camera = Rc::new(Camera::new(id, spec, events, flows.clone()));
            if let Some(before) = cameras.insert(id, camera.clone()) {
                before.remove();
            }
            for (index, flow) in flows.into_iter().enumerate() {
                let source = Source {
                    camera: camera.clone(),
                    index,
                    flow,
                    around: around.clone(),
                    turnstile: turnstile.clone(),
                };
                let task = tasks.spawn_local(source.run());
                names.insert(task.id(), (id, index));
            }
        }
        Order::Want { camera, target } => {
            if let Some(camera) = cameras.get(&camera) {
                camera.aim(Some(target));
            }
        }
        Order::Release { camera } => {
            if let Some(camera) = cameras.get(&camera) {
                camera.aim(None);
            }
        }
        Order::Remove { camera } => {
            if let Some(camera) = cameras.remove(&camera) {
                camera.remove();
            }
        }
    }
}
