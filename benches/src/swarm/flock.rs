//! All legs on one thread: a socket each, one epoll, one timer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::sync::oneshot;

use super::leg::{Leg, LegSpec, Outbox, Tally, Terms};
use super::received::Counts;
use crate::cpu;
use crate::peers::histogram::Histogram;
use crate::peers::meeting::now;

/// What a socket may hold that we did not come to read yet: a tenth of a second of 8 Mbit/s.
const BUFFER_BYTES: usize = 1 << 20;

/// Datagrams, or runs of them, taken from one socket before the next has its turn.
const TAKEN_AT_ONCE: usize = 32;

/// Sockets that are told of at once.
const EVENTS: usize = 256;

/// What epoll says of what is no leg's socket.
const ORDERS: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// How datagrams are taken from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// One at a time: a server's burst is cut before it reaches the socket, as a network card would
    /// cut it, and the server's machine pays.
    Single,
    /// Runs as the kernel joined them, or as the server sent them (UDP_GRO): the cheapest for this
    /// program, and, on one machine, for the server.
    Runs,
}

/// What legs came to.
#[derive(Clone, Debug, Default)]
pub(super) struct FlockReport {
    pub(super) receivers: usize,
    pub(super) connected: usize,
    /// Legs that are over, by why.
    pub(super) ends: BTreeMap<String, usize>,
    /// Receivers that no packet reached yet.
    pub(super) silent: usize,
    pub(super) streams: usize,
    pub(super) publishers_connected: usize,
    /// Receivers that went, since the beginning, and those of them that no packet had reached.
    pub(super) parted: u64,
    pub(super) parted_silent: u64,
    /// From asking a door to keys, and to the first packet.
    pub(super) connect: Histogram,
    pub(super) first_packet: Histogram,
    pub(super) counts: Counts,
    pub(super) sent: u64,
    pub(super) frame_max: u64,
    pub(super) key_requests: u64,
    pub(super) tally: Tally,
    /// How late this thread did what was due.
    pub(super) lateness: Histogram,
    pub(super) wall: Duration,
    /// Of this thread.
    pub(super) cpu: Duration,
    pub(super) send_errors: u64,
}

impl FlockReport {
    /// How many legs are over.
    pub(super) fn closed(&self) -> usize {
        self.ends.values().sum()
    }
}

/// How somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// A `close_notify` leaves.
    Goodbye,
    /// Nothing does: a client that crashed, or lost its network.
    Silence,
}

/// The name of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LegId(u64);

enum Order {
    Join(LegId, Box<LegSpec>, UdpSocket, Instant),
    Part(LegId, Farewell),
    Measure,
    Report(oneshot::Sender<FlockReport>),
    Leave,
}

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Flock {
    orders: Sender<Order>,
    bell: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    joined: AtomicU64,
}

impl Flock {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn start(terms: Terms, intake: Intake) -> io::Result<Flock> {
        let (orders, taken) = channel();
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK)?);
        let mut pasture = Pasture::new(terms, intake, taken, bell.clone())?;
        let thread = std::thread::Builder::new()
            .name("flock".to_owned())
            .spawn(move || pasture.run())?;
        Ok(Flock {
            orders,
            bell,
            thread: Some(thread),
            joined: AtomicU64::new(0),
        })
    }

    /// A new leg, whose door was asked at this time.
    pub(super) fn join(&self, spec: LegSpec, socket: UdpSocket, asked_at: Instant) -> LegId {
        let id = LegId(self.joined.fetch_add(1, Ordering::Relaxed));
        self.order(Order::Join(id, Box::new(spec), socket, asked_at));
        id
    }

    /// A leg goes, and its socket is closed.
    pub(super) fn part(&self, leg: LegId, farewell: Farewell) {
        self.order(Order::Part(leg, farewell));
    }

    /// Counts from here on.
    pub(super) fn measure(&self) {
        self.order(Order::Measure);
    }

    /// What came of it since.
    pub(super) async fn report(&self) -> FlockReport {
        self.ask().await.unwrap_or_default()
    }

    /// The same, for who does not run on tokio.
    pub(super) fn report_blocking(&self) -> FlockReport {
        self.ask().blocking_recv().unwrap_or_default()
    }

    fn ask(&self) -> oneshot::Receiver<FlockReport> {
        let (reply, replied) = oneshot::channel();
        self.order(Order::Report(reply));
        replied
    }

    /// All say goodbye, and nobody can come any more.
    pub(super) fn close(&self) {
        self.order(Order::Leave);
    }

    /// All say goodbye.
    pub(super) fn leave(mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).ok();
        rustix::io::write(&*self.bell, &1_u64.to_ne_bytes()).ok();
    }
}

/// A leg and its socket.
struct Sheep {
    id: LegId,
    leg: Leg,
    udp: UdpSocket,
    runs: Option<UdpSocketState>,
    candidates: Vec<SocketAddr>,
    /// Where the server answered from; until then every candidate is tried.
    remote: Option<SocketAddr>,
    due: Option<Instant>,
    asked_at: Instant,
}

/// What the thread holds.
struct Pasture {
    terms: Terms,
    intake: Intake,
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// What the timer is set to.
    armed: Option<Instant>,
    sheep: Vec<Option<Sheep>>,
    /// Places of those who went.
    free: Vec<usize>,
    parted: u64,
    parted_silent: u64,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    out: Outbox,
    buffer: Vec<u8>,
    tally: Tally,
    lateness: Histogram,
    send_errors: u64,
    measured_at: Instant,
    cpu_before_ns: u64,
    leaving: bool,
}

impl Pasture {
    fn new(
        terms: Terms,
        intake: Intake,
        orders: Receiver<Order>,
        bell: Arc<OwnedFd>,
    ) -> io::Result<Pasture> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        let (flags, data) = (epoll::EventFlags::IN, epoll::EventData::new_u64);
        epoll::add(&epoll, &*bell, data(ORDERS), flags)?;
        epoll::add(&epoll, &timer, data(TIMER), flags)?;
        Ok(Pasture {
            terms,
            intake,
            orders,
            bell,
            epoll,
            timer,
            armed: None,
            sheep: Vec::new(),
            free: Vec::new(),
            parted: 0,
            parted_silent: 0,
            due: BinaryHeap::new(),
            out: Outbox::default(),
            buffer: vec![0; 1 << 16],
            tally: Tally::default(),
            lateness: Histogram::default(),
            send_errors: 0,
            measured_at: now(),
            cpu_before_ns: 0,
            leaving: false,
        })
    }

    fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.leaving {
            self.do_what_is_due();
            self.arm();
            events.clear();
            if epoll::wait(&self.epoll, spare_capacity(&mut events), None).is_err() {
                continue;
            }
            for event in &events {
                match event.data.u64() {
                    ORDERS => self.take_orders(),
                    // Arming it again takes it back.
                    TIMER => self.armed = None,
                    at => {
                        self.receive(at as usize);
                        self.do_what_is_due();
                    }
                }
            }
        }
    }

    fn take_orders(&mut self) {
        let mut rung = [0; 8];
        rustix::io::read(&*self.bell, &mut rung).ok();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Join(id, spec, udp, asked_at) => {
                    if self.join(id, *spec, udp, asked_at).is_err() {
                        self.send_errors += 1;
                    }
                }
                Order::Part(id, farewell) => self.part(id, farewell),
                Order::Measure => self.measure(),
                Order::Report(reply) => {
                    reply.send(self.report()).ok();
                }
                Order::Leave => self.leave(),
            }
        }
    }

    fn join(
        &mut self,
        id: LegId,
        mut spec: LegSpec,
        udp: UdpSocket,
        asked_at: Instant,
    ) -> io::Result<()> {
        udp.set_nonblocking(true)?;
        if set_socket_recv_buffer_size_force(&udp, BUFFER_BYTES).is_err() {
            set_socket_recv_buffer_size(&udp, BUFFER_BYTES)?;
        }
        let runs = match self.intake {
            Intake::Single => None,
            Intake::Runs => Some(UdpSocketState::new((&udp).into())?),
        };
        let at = self.free.last().copied().unwrap_or(self.sheep.len());
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &udp, data, epoll::EventFlags::IN)?;
        let local = udp.local_addr()?;
        spec.candidates.retain(|to| to.is_ipv4() == local.is_ipv4());
        let candidates = std::mem::take(&mut spec.candidates);
        if self.free.pop().is_none() {
            self.sheep.push(None);
        }
        self.sheep[at] = Some(Sheep {
            id,
            leg: Leg::new(now(), spec),
            udp,
            runs,
            candidates,
            remote: None,
            due: None,
            asked_at,
        });
        self.schedule(at);
        Ok(())
    }

    /// Closing the socket takes it out of epoll; what is planned for its place finds another, or none.
    fn part(&mut self, id: LegId, farewell: Farewell) {
        let is_it = |sheep: &Option<Sheep>| sheep.as_ref().is_some_and(|sheep| sheep.id == id);
        let Some(at) = self.sheep.iter().position(is_it) else {
            return;
        };
        if farewell == Farewell::Goodbye {
            self.say_goodbye(at);
        }
        if let Some(sheep) = self.sheep[at].take().filter(|sheep| sheep.leg.receives) {
            let (_, streams) = sheep.leg.counts();
            self.parted += 1;
            self.parted_silent += u64::from(streams == 0);
        }
        self.free.push(at);
    }

    fn say_goodbye(&mut self, at: usize) {
        self.out.clear();
        if let Some(Some(sheep)) = self.sheep.get_mut(at) {
            sheep.leg.handle_close(now(), &mut self.out);
        }
        self.flush(at);
    }

    /// Notes when a leg wants to be called next.
    fn schedule(&mut self, at: usize) {
        let Some(Some(sheep)) = self.sheep.get_mut(at) else {
            return;
        };
        let due = sheep.leg.poll_timeout();
        if due != sheep.due {
            sheep.due = due;
            self.due.extend(due.map(|due| Reverse((due, at))));
        }
    }

    fn do_what_is_due(&mut self) {
        while let Some(Reverse((due, at))) = self.due.peek().copied() {
            let now = now();
            if due > now {
                return;
            }
            self.due.pop();
            let Some(Some(sheep)) = self.sheep.get_mut(at) else {
                continue;
            };
            // It changed its mind since.
            if sheep.due != Some(due) {
                continue;
            }
            sheep.due = None;
            self.lateness.add(now.saturating_duration_since(due));
            self.out.clear();
            sheep.leg.handle_timeout(now, &self.terms, &mut self.out);
            self.flush(at);
            self.schedule(at);
        }
    }

    fn arm(&mut self) {
        let next = self.due.peek().map(|Reverse((due, _))| *due);
        if next == self.armed {
            return;
        }
        self.armed = next;
        let Some(next) = next else {
            return;
        };
        // Nothing at all would disarm it.
        let wait = next
            .saturating_duration_since(now())
            .max(Duration::from_nanos(1));
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let once = Itimerspec {
            it_interval: zero,
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).ok();
    }

    fn receive(&mut self, at: usize) {
        let mut timeouts_changed = false;
        for _ in 0..TAKEN_AT_ONCE {
            let Some(Some(sheep)) = self.sheep.get_mut(at) else {
                return;
            };
            let taken = match &sheep.runs {
                None => sheep
                    .udp
                    .recv_from(&mut self.buffer)
                    .map(|(len, from)| (len, len, from)),
                Some(state) => {
                    let mut meta = [RecvMeta::default()];
                    let mut slices = [IoSliceMut::new(&mut self.buffer)];
                    let received = state.recv((&sheep.udp).into(), &mut slices, &mut meta);
                    let [meta] = meta;
                    received.map(|_| (meta.len, meta.stride, meta.addr))
                }
            };
            let (len, stride, from) = match taken {
                Ok(taken) => taken,
                // A port that was closed says so; consent decides whether it is over.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => break,
            };
            let at_time = now();
            sheep.remote.get_or_insert(from);
            self.out.clear();
            let run = self.buffer.get(..len).unwrap_or_default();
            for datagram in run.chunks(stride.max(1)) {
                timeouts_changed |= sheep.leg.handle_datagram(
                    at_time,
                    &self.terms,
                    from,
                    datagram,
                    &mut self.tally,
                    &mut self.out,
                );
            }
            self.flush(at);
        }
        if timeouts_changed {
            self.schedule(at);
        }
    }

    /// Sends what is in the outbox, a datagram at a time, as browsers do.
    fn flush(&mut self, at: usize) {
        let Some(Some(sheep)) = self.sheep.get(at) else {
            return;
        };
        let to = sheep.remote.as_slice();
        let to = if to.is_empty() { &sheep.candidates } else { to };
        for datagram in self.out.datagrams() {
            for to in to {
                let sent = sheep.udp.send_to(datagram, to);
                self.send_errors += u64::from(sent.is_err());
            }
        }
        self.out.clear();
    }

    fn measure(&mut self) {
        for sheep in self.sheep.iter_mut().flatten() {
            sheep.leg.handle_measure();
        }
        self.tally = Tally::default();
        self.lateness = Histogram::default();
        self.send_errors = 0;
        self.measured_at = now();
        self.cpu_before_ns = cpu::of_this_thread_ns();
    }

    fn report(&self) -> FlockReport {
        let mut report = FlockReport {
            tally: self.tally.clone(),
            lateness: self.lateness.clone(),
            send_errors: self.send_errors,
            parted: self.parted,
            parted_silent: self.parted_silent,
            wall: now().saturating_duration_since(self.measured_at),
            cpu: Duration::from_nanos(cpu::of_this_thread_ns() - self.cpu_before_ns),
            ..FlockReport::default()
        };
        for Sheep { leg, asked_at, .. } in self.sheep.iter().flatten() {
            let connected = leg.connected_at.filter(|_| leg.ended.is_none());
            if let Some(end) = leg.ended {
                *report.ends.entry(format!("{end:?}")).or_default() += 1;
            }
            for sent in &leg.sent {
                report.sent += sent.packets;
                report.frame_max = report.frame_max.max(sent.frame_max);
                report.key_requests += sent.key_requests;
            }
            if !leg.sent.is_empty() {
                report.publishers_connected += usize::from(connected.is_some());
            }
            if !leg.receives {
                continue;
            }
            let (counts, streams) = leg.counts();
            report.receivers += 1;
            report.connected += usize::from(connected.is_some());
            report.silent += usize::from(streams == 0);
            report.streams += streams;
            report.counts.add(&counts);
            if let Some(at) = leg.connected_at {
                report.connect.add(at.saturating_duration_since(*asked_at));
            }
            if let Some(at) = leg.first_packet_at {
                report
                    .first_packet
                    .add(at.saturating_duration_since(*asked_at));
            }
        }
        report
    }

    fn leave(&mut self) {
        for at in 0..self.sheep.len() {
            self.say_goodbye(at);
        }
        self.leaving = true;
    }
}
