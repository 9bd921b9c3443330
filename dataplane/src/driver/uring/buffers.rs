//! The buffers that the kernel receives into, and the ring by which it gets them.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::limits::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};

/// The kernel wants the ring of entries aligned to a page.
const PAGE: usize = 4096;

/// Zeroed memory on whole pages, owned.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn new(len: usize) -> Pages {
        let layout = Layout::from_size_align(len, PAGE)
            .expect("the lengths are constants far below isize::MAX");
        // SAFETY: the layout's size is not 0, both callers ask for constants.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Pages { start, layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Receive buffers, each either with the kernel or, between a completion and `give`, with us.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: Pages,
    memory: Pages,
    /// Entries written so far, modulo 2^16; the kernel sees them after `publish`.
    tail: u16,
}

impl BufferRing {
    /// All buffers given and published.
    pub(super) fn new() -> BufferRing {
        let mut ring = BufferRing {
            entries: Pages::new(RECEIVE_BUFFERS * size_of::<BufRingEntry>()),
            memory: Pages::new(RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES),
            tail: 0,
        };
        for buffer in 0..RECEIVE_BUFFERS as u16 {
            ring.give(buffer);
        }
        ring.publish();
        ring
    }

    /// Where the entries are, to register them.
    pub(super) fn address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    /// The first `len` bytes of a buffer that a completion named and that was not given back yet.
    pub(super) fn received(&mut self, buffer: u16, len: usize) -> &mut [u8] {
        let start = self.buffer(buffer);
        let len = len.min(RECEIVE_BUFFER_BYTES);
        // SAFETY: inside `memory`, which was zeroed and so is initialised. The kernel gave the
        // buffer up with its completion, and `&mut self` keeps others away.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Gives a buffer back to the kernel, which sees it after `publish`.
    pub(super) fn give(&mut self, buffer: u16) {
        // Exposed, since the kernel writes there by the number.
        let address = self.buffer(buffer).as_ptr().expose_provenance() as u64;
        let index = usize::from(self.tail) % RECEIVE_BUFFERS;
        // SAFETY: the index is below the number of entries.
        let entry = unsafe { self.entries.start.cast::<BufRingEntry>().add(index) };
        // SAFETY: aligned and zeroed when allocated. Entries past the published tail are ours:
        // at most RECEIVE_BUFFERS are ever given, so this one was consumed before.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(RECEIVE_BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given.
    pub(super) fn publish(&mut self) {
        let first = self.entries.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: the first entry of the ring, which is valid; the tail lies in its unused field.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: two aligned bytes inside `entries`, written only here and read by the kernel.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The entries must be seen before the tail that covers them.
        tail.store(self.tail, Ordering::Release);
    }

    fn buffer(&self, buffer: u16) -> NonNull<u8> {
        let buffer = usize::from(buffer);
        assert!(
            buffer < RECEIVE_BUFFERS,
            "the kernel names buffers that it was given"
        );
        // SAFETY: below RECEIVE_BUFFERS, so inside `memory`.
        unsafe { self.memory.start.add(buffer * RECEIVE_BUFFER_BYTES) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the ring as the kernel does: what was published since `from`, as buffers' names and addresses.
    fn published(ring: &BufferRing, from: u16) -> Vec<(u16, *mut u8, usize)> {
        let first = ring.entries.start.cast::<BufRingEntry>().as_ptr();
        // SAFETY: the first entry of a ring that lives.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: two aligned bytes inside the ring's memory.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) }.load(Ordering::Acquire);
        let count = tail.wrapping_sub(from);
        assert!(usize::from(count) <= RECEIVE_BUFFERS);
        let entry = |number: u16| {
            let index = usize::from(from.wrapping_add(number)) % RECEIVE_BUFFERS;
            // SAFETY: below the number of entries, all of which were written.
            let entry = unsafe { &*first.wrapping_add(index) };
            let address = std::ptr::with_exposed_provenance_mut(entry.addr() as usize);
            (entry.bid(), address, entry.len() as usize)
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn what_the_kernel_writes_is_received_and_buffers_go_round() {
        let mut ring = BufferRing::new();
        // As many rounds as let the ring's numbers begin anew.
        let rounds = (1 << 16) / RECEIVE_BUFFERS + 2;
        let mut seen = 0_u16;
        for round in 0..rounds {
            let given = published(&ring, seen);
            assert_eq!(given.len(), RECEIVE_BUFFERS, "round {round}");
            seen = seen.wrapping_add(RECEIVE_BUFFERS as u16);
            for (buffer, address, len) in given.into_iter().rev() {
                assert_eq!(len, RECEIVE_BUFFER_BYTES);
                // SAFETY: the buffer is the kernel's, which we play, until it names it.
                unsafe { address.write(buffer as u8) };
                let last = address.wrapping_add(len - 1);
                // SAFETY: the last byte of the same.
                unsafe { last.write(round as u8) };
                let received = ring.received(buffer, len);
                assert_eq!(received.len(), RECEIVE_BUFFER_BYTES);
                let ends = (received.first(), received.last());
                assert_eq!(ends, (Some(&(buffer as u8)), Some(&(round as u8))));
                assert!(published(&ring, seen).is_empty());
                ring.give(buffer);
            }
            assert!(published(&ring, seen).is_empty(), "not yet");
            ring.publish();
        }
    }

    #[test]
    #[should_panic(expected = "buffers that it was given")]
    fn a_buffer_that_there_is_not_is_refused() {
        BufferRing::new().received(RECEIVE_BUFFERS as u16, 1);
    }
}
