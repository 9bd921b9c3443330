//! The slots that bursts are written into and sent from.

use io_uring::{opcode, squeue};
use socket2::SockAddr;

use super::super::link::{Failed, LinkCounts, mapped};
use super::{SOCKET, empty_header};
use crate::limits::{BURST_BYTES_MAX, SEND_SLOTS};
use crate::transmit::{Path, Transmit};

/// Bytes of a control message with the segment size: header, value, padding.
const CONTROL_BYTES: usize = 24;

/// Length that the control message says: header and value.
const CONTROL_LEN: usize = 18;

/// A control message with the segment size (UDP_SEGMENT), aligned as the kernel wants it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Control {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment: u16,
    padding: [u8; 6],
}

const _: () = assert!(
    size_of::<Control>() == CONTROL_BYTES,
    "the layout is the kernel's"
);

/// What happens to a slot when its send completed.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing is left in it: it can be written again.
    Free,
    /// More of it is to be sent.
    Send(squeue::Entry),
    /// The same, and no burst should be sent in one piece any more.
    WithoutOffload(squeue::Entry),
}

/// A burst's memory while the kernel sends it. Boxed as a whole, so that its parts, which point
/// at each other, stay where they are.
struct Slot {
    bytes: Box<[u8]>,
    address: SockAddr,
    control: Control,
    vector: libc::iovec,
    header: libc::msghdr,
    transmit: Transmit,
    /// What the send under way covers.
    sending: std::ops::Range<usize>,
}

/// All slots of a worker: each is free, or with the kernel.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    /// Last freed, first used: it is still in the cache.
    free: Vec<u16>,
}

impl Slots {
    pub(super) fn new() -> Slots {
        Slots {
            slots: (0..SEND_SLOTS).map(|_| Slot::new()).collect(),
            free: (0..SEND_SLOTS as u16).rev().collect(),
        }
    }

    pub(super) fn any_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn all_free(&self) -> bool {
        self.free.len() == SEND_SLOTS
    }

    /// The slot that `send` will send from.
    pub(super) fn next_free(&mut self) -> Option<&mut [u8]> {
        let index = *self.free.last()?;
        Some(&mut self.slot(index).bytes)
    }

    /// Makes the request that sends what was written into the next free slot.
    pub(super) fn send(
        &mut self,
        transmit: Transmit,
        socket_is_v6: bool,
        gso: bool,
    ) -> Option<(u16, squeue::Entry)> {
        let index = self.free.pop()?;
        let slot = self.slot(index);
        slot.transmit = transmit;
        slot.address = mapped(transmit.path.remote, socket_is_v6).into();
        let end = if gso {
            transmit.len
        } else {
            transmit.len.min(transmit.segment.max(1))
        };
        slot.sending = 0..end;
        Some((index, slot.entry(index)))
    }

    /// How many datagrams the send under way has in one piece.
    pub(super) fn datagrams(&mut self, index: u16) -> usize {
        let slot = self.slot(index);
        slot.sending.len().div_ceil(slot.transmit.segment.max(1))
    }

    /// Takes a send's result, and says how the slot goes on.
    pub(super) fn on_sent(&mut self, index: u16, result: i32, counts: &mut LinkCounts) -> Next {
        let datagrams = self.datagrams(index);
        let slot = self.slot(index);
        let Transmit { len, segment, .. } = slot.transmit;
        let failed = (result < 0).then(|| counts.on_send_error(-result, datagrams));
        let mut without_offload = false;
        if let Some(Failed::Split { for_good }) = failed {
            // The same again, one by one.
            without_offload = for_good;
            slot.sending = 0..segment;
        } else {
            let start = slot.sending.end;
            slot.sending = start..len.min(start + segment.max(1));
        }
        if slot.sending.is_empty() {
            self.free(index);
            return Next::Free;
        }
        let entry = slot.entry(index);
        if without_offload {
            Next::WithoutOffload(entry)
        } else {
            Next::Send(entry)
        }
    }

    /// Gives a slot up, sent or not.
    pub(super) fn free(&mut self, index: u16) {
        self.free.push(index);
    }

    fn slot(&mut self, index: u16) -> &mut Slot {
        self.slots
            .get_mut(usize::from(index))
            .expect("indices are made in `new`, and the kernel hands them back unchanged")
    }
}

impl Slot {
    fn new() -> Slot {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Slot {
            bytes: vec![0; BURST_BYTES_MAX].into_boxed_slice(),
            address: nowhere.into(),
            control: Control {
                len: CONTROL_LEN,
                level: libc::SOL_UDP,
                kind: libc::UDP_SEGMENT,
                segment: 0,
                padding: [0; 6],
            },
            vector: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            header: empty_header(),
            transmit: Transmit {
                path: Path::udp(nowhere),
                len: 0,
                segment: 0,
            },
            sending: 0..0,
        }
    }

    /// The request that sends `sending`. It points into this slot, which must stay in place and
    /// untouched until the request completes.
    fn entry(&mut self, index: u16) -> squeue::Entry {
        let segment = self.transmit.segment;
        let bytes = self.bytes.get_mut(self.sending.clone()).unwrap_or_default();
        self.vector.iov_base = bytes.as_mut_ptr().cast();
        self.vector.iov_len = bytes.len();
        let is_burst = bytes.len() > segment;
        self.header.msg_name = self.address.as_ptr().cast_mut().cast();
        self.header.msg_namelen = self.address.len();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        if is_burst {
            self.control.segment = segment as u16;
            self.header.msg_control = (&raw mut self.control).cast();
            self.header.msg_controllen = CONTROL_BYTES as _;
        } else {
            self.header.msg_control = std::ptr::null_mut();
            self.header.msg_controllen = 0;
        }
        opcode::SendMsg::new(SOCKET, &raw const self.header)
            .build()
            .user_data(u64::from(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: usize = 100;

    fn burst(slots: &mut Slots, datagrams: usize, gso: bool) -> u16 {
        let path = Path::udp("192.0.2.7:5000".parse().unwrap());
        let transmit = Transmit {
            path,
            len: datagrams * SEGMENT - 1,
            segment: SEGMENT,
        };
        slots.send(transmit, false, gso).unwrap().0
    }

    #[test]
    fn a_burst_is_one_send() {
        let (mut slots, mut counts) = (Slots::new(), LinkCounts::default());
        let index = burst(&mut slots, 4, true);
        assert!(!slots.all_free());
        assert!(matches!(slots.on_sent(index, 399, &mut counts), Next::Free));
        assert!(slots.all_free());
    }

    #[test]
    fn a_refused_burst_goes_out_one_by_one() {
        let (mut slots, mut counts) = (Slots::new(), LinkCounts::default());
        let index = burst(&mut slots, 3, true);
        assert!(matches!(
            slots.on_sent(index, -libc::EINVAL, &mut counts),
            Next::Send(_)
        ));
        assert!(matches!(
            slots.on_sent(index, 100, &mut counts),
            Next::Send(_)
        ));
        // One that fails does not hold up the next.
        assert!(matches!(
            slots.on_sent(index, -libc::EPERM, &mut counts),
            Next::Send(_)
        ));
        assert_eq!(slots.slot(index).sending, 200..299);
        assert!(matches!(slots.on_sent(index, 99, &mut counts), Next::Free));
        assert_eq!(
            (counts.bursts_split, counts.refused, counts.full),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_device_without_offload_is_remembered() {
        let (mut slots, mut counts) = (Slots::new(), LinkCounts::default());
        let index = burst(&mut slots, 2, true);
        assert!(matches!(
            slots.on_sent(index, -libc::EIO, &mut counts),
            Next::WithoutOffload(_)
        ));
        let index = burst(&mut slots, 2, false);
        assert!(matches!(
            slots.on_sent(index, 100, &mut counts),
            Next::Send(_)
        ));
        assert!(matches!(slots.on_sent(index, 99, &mut counts), Next::Free));
        assert_eq!(counts.bursts_split, 1);
    }

    #[test]
    fn a_lost_burst_is_counted_by_datagram() {
        let (mut slots, mut counts) = (Slots::new(), LinkCounts::default());
        let index = burst(&mut slots, 5, true);
        assert!(matches!(
            slots.on_sent(index, -libc::ENOBUFS, &mut counts),
            Next::Free
        ));
        assert_eq!(counts.full, 5);
    }
}
