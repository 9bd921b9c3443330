//! UDP on io_uring: multishot receive into provided buffers, sends from a fixed set of slots.
//!
//! The ring is a raw one beside tokio-uring's, on the same thread: tokio-uring has neither
//! multishot receives nor GRO sizes. It wakes the runtime through a registered eventfd, which is
//! switched off during a turn (the turn reaps by itself) and never read: epoll watches it
//! edge-triggered, so each write is news.
//!
//! All memory that the kernel reads or writes belongs to [`Memory`], and is freed only when every
//! request has completed; memory of requests that do not end is left behind.

#![expect(
    unsafe_code,
    reason = "io_uring is memory shared with the kernel; this module is the only one that holds any"
)]

mod arrival;
mod buffers;
mod drops;
mod setup;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use self::arrival::{CONTROL_BYTES, NAME_BYTES, parse};
use self::buffers::BufferRing;
use self::setup::{COMPLETIONS, Setup, build, explain, require_operations};
use self::slots::{Next, Slots};
use super::faults::Faults;
use super::link::{Link, LinkCounts, Offloads, unmapped};

pub(super) use self::drops::receive_drops;
use crate::limits::RECEIVE_BUFFERS;
use crate::transmit::{Path, Transmit};

/// The provided-buffer group of this ring; there is one.
const GROUP: u16 = 0;

/// The socket's place in the ring's table of files; there is one.
const SOCKET: Fixed = Fixed(0);

/// `user_data` of the multishot receive; a send's is the index of its slot.
const RECEIVE: u64 = u64::MAX;

/// How often, and how long each time, the ends of requests are waited for.
const END_ROUNDS: usize = 20;
const END_WAIT_NS: u32 = 50_000_000;

/// What the kernel shares with us.
struct Memory {
    buffers: BufferRing,
    slots: Slots,
    /// The multishot receive's template: how much room names and control data get.
    receive: Box<libc::msghdr>,
}

/// One receive that completed and waits for the turn.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    buffer: u16,
    len: usize,
}

/// A UDP socket with its ring, receiving. Lives on the thread that opened it.
pub(super) struct UringSocket {
    ring: IoUring,
    memory: ManuallyDrop<Memory>,
    /// Held open for the ring.
    udp: UdpSocket,
    is_v6: bool,
    offloads: Offloads,
    arrivals: VecDeque<Arrival>,
    /// Whether the multishot receive stands.
    armed: bool,
    /// The error that ended it last.
    disarmed_by: i32,
    /// The link is being dropped: nothing is sent again.
    ending: bool,
    /// Nothing of ours is with the kernel any more.
    ended: bool,
    counts: LinkCounts,
    faults: Faults,
}

impl UringSocket {
    /// Sets up a ring and starts to receive. Everything that a later packet needs is tried here,
    /// so success means that io_uring is allowed and new enough.
    pub(super) fn open(udp: &UdpSocket, faults: &Faults) -> io::Result<UringSocket> {
        let mut refused = None;
        for setup in [Setup::Deferred, Setup::Cooperative, Setup::Plain] {
            match UringSocket::open_with(udp.try_clone()?, setup, COMPLETIONS) {
                Ok(mut socket) => {
                    socket.faults = faults.clone();
                    return Ok(socket);
                }
                // Only an old kernel's answer is worth another try.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.expect("the loop ran, and every turn of it returned or set this"))
    }

    fn open_with(udp: UdpSocket, setup: Setup, completions: u32) -> io::Result<UringSocket> {
        let ring = build(setup, completions).map_err(|error| explain("io_uring_setup", &error))?;
        require_operations(&ring)?;
        ring.submitter()
            .register_files(&[udp.as_raw_fd()])
            .map_err(|error| explain("registering the socket", &error))?;
        let memory = Memory {
            buffers: BufferRing::new(),
            slots: Slots::new(),
            receive: Box::new(receive_template()),
        };
        // SAFETY: the entries are RECEIVE_BUFFERS long, page-aligned, and are freed only after
        // the group was unregistered (see `Drop`).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                memory.buffers.address(),
                RECEIVE_BUFFERS as u16,
                GROUP,
                0,
            )
        }
        .map_err(|error| explain("registering receive buffers", &error))?;
        let offloads = Offloads {
            // Set to what it is already, off: this only asks whether the kernel knows it.
            gso: set_udp_option(&udp, libc::UDP_SEGMENT, 0),
            gro: set_udp_option(&udp, libc::UDP_GRO, 1),
        };
        let mut socket = UringSocket {
            ring,
            memory: ManuallyDrop::new(memory),
            is_v6: udp.local_addr()?.is_ipv6(),
            udp,
            offloads,
            arrivals: VecDeque::with_capacity(RECEIVE_BUFFERS),
            armed: false,
            disarmed_by: 0,
            ending: false,
            ended: false,
            counts: LinkCounts::default(),
            faults: Faults::default(),
        };
        socket.arm();
        socket.submit();
        socket.reap();
        if socket.armed {
            Ok(socket)
        } else {
            let error = io::Error::from_raw_os_error(socket.disarmed_by);
            Err(explain("multishot receive", &error))
        }
    }

    /// Starts the multishot receive; it stands until `reap` finds that it ended.
    fn arm(&mut self) {
        let entry = opcode::RecvMsgMulti::new(SOCKET, &raw const *self.memory.receive, GROUP);
        self.armed = self.push(&entry.build().user_data(RECEIVE));
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        if self.ring.submission().is_full() {
            self.submit();
        }
        // SAFETY: what the entry points at is in `self.memory`, which outlives the request: it is
        // a slot that is not touched until it completes, or the receive template.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Gives the kernel what was pushed, and lets it complete what it can.
    fn submit(&mut self) {
        // EBUSY (the completion queue is full) and EAGAIN (no memory) leave entries where they
        // are; they go with the next submission, which `settle` makes sure of.
        while let Err(error) = self.ring.submit() {
            if error.kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
    }

    /// Takes all completions: slots become free or send what is left, receives queue up.
    fn reap(&mut self) {
        while let Some(completion) = self.next_completion() {
            if completion.user_data() == RECEIVE {
                self.on_receive(&completion);
            } else {
                self.on_sent(completion.user_data() as u16, completion.result());
            }
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn on_receive(&mut self, completion: &cqueue::Entry) {
        self.armed = cqueue::more(completion.flags());
        let buffer = cqueue::buffer_select(completion.flags());
        match (buffer, usize::try_from(completion.result())) {
            (Some(buffer), Ok(len)) => self.arrivals.push_back(Arrival { buffer, len }),
            (Some(buffer), Err(_)) => self.memory.buffers.give(buffer),
            (None, Ok(_)) => {}
            (None, Err(_)) => {
                self.disarmed_by = -completion.result();
                if self.disarmed_by == libc::ENOBUFS {
                    self.counts.buffers_exhausted += 1;
                }
            }
        }
    }

    fn on_sent(&mut self, index: u16, result: i32) {
        match self.memory.slots.on_sent(index, result, &mut self.counts) {
            Next::Send(entry) if !self.ending => self.push_send(index, &entry),
            Next::Send(_) => self.memory.slots.free(index),
            Next::Free => {}
            Next::WithoutOffload(entry) => {
                self.offloads.gso = false;
                if self.ending {
                    self.on_unsendable(index);
                } else {
                    self.push_send(index, &entry);
                }
            }
        }
    }

    fn push_send(&mut self, index: u16, entry: &squeue::Entry) {
        let datagrams = self.memory.slots.datagrams(index);
        match self.faults.of_send(datagrams) {
            Some(errno) => self.on_sent(index, -errno),
            None if self.push(entry) => {}
            None => self.on_unsendable(index),
        }
    }

    /// The submission queue is full and the kernel takes nothing: what is in the slot is lost.
    fn on_unsendable(&mut self, index: u16) {
        self.counts.full += 1;
        self.memory.slots.free(index);
    }

    /// Whether the kernel has something to do that it does only when we enter it.
    fn kernel_waits(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Whether there is something for us that no eventfd write will tell.
    fn has_work(&mut self) -> bool {
        self.kernel_waits() || !self.arrivals.is_empty() || !self.ring.completion().is_empty()
    }

    /// Hands over at most so many runs of what arrived, and makes sure that the receive stands.
    fn receive(&mut self, runs_max: usize, take: impl FnMut(Path, &mut [u8], usize)) {
        if self.kernel_waits() {
            self.submit();
        }
        self.reap();
        self.hand_over(runs_max, take);
        // Whatever ended it (no buffers, a full completion queue, an error of the socket), the
        // receive must stand again, after the buffers were given back.
        if !self.armed {
            self.arm();
        }
    }

    /// Gives what arrived to `take`, at most so many runs, and the buffers back to the kernel.
    fn hand_over(&mut self, runs_max: usize, mut take: impl FnMut(Path, &mut [u8], usize)) {
        for _ in 0..runs_max {
            let Some(Arrival { buffer, len }) = self.arrivals.pop_front() else {
                break;
            };
            if let Some(run) = parse(self.memory.buffers.received(buffer, len)) {
                if run.remote.port() == 0 {
                    self.counts.port_zero += 1;
                } else {
                    take(Path::udp(unmapped(run.remote)), run.bytes, run.segment);
                }
            }
            self.memory.buffers.give(buffer);
        }
        self.memory.buffers.publish();
    }

    /// Ends the multishot receive; whether its end was seen.
    fn disarm(&mut self) -> bool {
        self.submit();
        let limit = Timespec::new().nsec(END_WAIT_NS);
        // Refused only when it ended by itself.
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(Some(limit), CancelBuilder::user_data(RECEIVE));
        self.wait_until(|socket| !socket.armed)
    }

    /// Waits until no slot is on its way; whether that came about.
    fn wait_sent(&mut self) -> bool {
        self.submit();
        self.wait_until(|socket| socket.memory.slots.all_free())
    }

    fn wait_until(&mut self, held: impl Fn(&UringSocket) -> bool) -> bool {
        let limit = Timespec::new().nsec(END_WAIT_NS);
        for _ in 0..END_ROUNDS {
            self.reap();
            if held(self) {
                return true;
            }
            let arguments = SubmitArgs::new().timespec(&limit);
            let _ = self.ring.submitter().submit_with_args(1, &arguments);
        }
        false
    }

    /// Cancels every request, waits until all have completed, and takes the memory back.
    fn end(&mut self) -> bool {
        if self.ended {
            return true;
        }
        self.ending = true;
        self.submit();
        let limit = Timespec::new().nsec(END_WAIT_NS);
        // Refused only when there is nothing to cancel.
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(Some(limit), CancelBuilder::any());
        if !self.wait_until(|socket| !socket.armed && socket.memory.slots.all_free()) {
            return false;
        }
        // A closed ring lets go of its files some time later; the port is to be free now.
        let _ = self.ring.submitter().unregister_files();
        self.ended = self.ring.submitter().unregister_buf_ring(GROUP).is_ok();
        self.ended
    }
}

impl Drop for UringSocket {
    fn drop(&mut self) {
        if self.end() {
            // SAFETY: dropped nowhere else, and not used after: this is the end of `self`. The
            // kernel has no request left that could touch it.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        } else {
            tracing::warn!(socket = ?self.udp, "io_uring requests did not end; their memory is left behind");
        }
    }
}

/// A [`UringSocket`] on the worker's runtime.
pub(super) struct UringLink {
    socket: UringSocket,
    /// Written by the kernel when there are completions, and by us to go on after a bounded turn.
    wake: AsyncFd<OwnedFd>,
}

impl UringLink {
    /// Must be called on the worker's runtime, on the thread that opened the socket.
    pub(super) fn new(socket: UringSocket) -> io::Result<UringLink> {
        let wake = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        socket.ring.submitter().register_eventfd(wake.as_raw_fd())?;
        let wake = watch(wake)?;
        Ok(UringLink { socket, wake })
    }

    fn wake_self(&self) {
        // It fails only when 2^64 - 2 writes were made.
        let _ = rustix::io::write(self.wake.get_ref().as_fd(), &1_u64.to_ne_bytes());
    }
}

impl Link for UringLink {
    fn receive(&mut self, runs_max: usize, take: impl FnMut(Path, &mut [u8], usize)) {
        self.socket.ring.completion().disable_eventfd();
        self.socket.receive(runs_max, take);
    }

    fn slot(&mut self) -> Option<&mut [u8]> {
        if !self.socket.memory.slots.any_free() {
            self.flush();
        }
        self.socket.memory.slots.next_free()
    }

    fn send(&mut self, transmit: Transmit) {
        let UringSocket {
            is_v6, offloads, ..
        } = self.socket;
        let Some((index, entry)) = self.socket.memory.slots.send(transmit, is_v6, offloads.gso)
        else {
            return;
        };
        self.socket.push_send(index, &entry);
    }

    fn flush(&mut self) {
        // A burst that goes out datagram by datagram pushes its next one as each completes.
        while !self.socket.ring.submission().is_empty() {
            let before = self.socket.ring.submission().len();
            self.socket.submit();
            let after = self.socket.ring.submission().len();
            self.socket.reap();
            if after >= before {
                // The kernel takes nothing now.
                break;
            }
        }
    }

    fn has_more(&mut self) -> bool {
        self.socket.has_work()
    }

    fn settle(&mut self, more: bool) {
        self.socket.ring.completion().enable_eventfd();
        // What completed while the eventfd was off is seen below, what completes from here on
        // writes it: the fence keeps the two in this order.
        fence(Ordering::SeqCst);
        if more || self.socket.has_work() {
            self.wake_self();
        }
    }

    async fn ready(&mut self) {
        match self.wake.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            // The runtime is ending.
            Err(_) => std::future::pending().await,
        }
    }

    fn stop_receiving(&mut self, take: impl FnMut(Path, &mut [u8], usize)) -> bool {
        let is_over = self.socket.disarm();
        self.socket.hand_over(usize::MAX, take);
        is_over
    }

    fn wait_sent(&mut self) -> bool {
        self.socket.wait_sent()
    }

    fn start_receiving(&mut self) {
        self.socket.arm();
        self.flush();
        self.wake_self();
    }

    fn counts(&self) -> &LinkCounts {
        &self.socket.counts
    }

    fn offloads(&self) -> Offloads {
        self.socket.offloads
    }

    fn receive_drops(&self) -> u64 {
        receive_drops(&self.socket.udp).into()
    }
}

/// Watches a descriptor on the runtime's epoll for being readable. Must be called on the runtime.
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor for all its life, which the `AsyncFd` owns.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// A header that gives each datagram room for its sender's address and its GRO size.
fn receive_template() -> libc::msghdr {
    let mut header = empty_header();
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    header.msg_controllen = CONTROL_BYTES as _;
    header
}

/// A message header with nothing in it.
fn empty_header() -> libc::msghdr {
    // SAFETY: a C struct of pointers and integers, for which zero bytes mean null and 0.
    unsafe { std::mem::zeroed() }
}

/// Sets an integer option at the UDP level; whether the kernel took it.
fn set_udp_option(udp: &UdpSocket, name: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: the descriptor is open and the pointer is to a c_int of the size that is said.
    let result = unsafe {
        libc::setsockopt(
            udp.as_raw_fd(),
            libc::SOL_UDP,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}
