//! What does it cost to read a packet: by our views, and by the crates of webrtc-rs?
//!
//! `cargo bench -p benches --bench parsers`, with `-- --json` for programs.

use std::hint::black_box;

use benches::allocations::{self, Counting};
use benches::call;
use benches::cpu::{self, per_call};
use benches::table::{Cell, Table};
use dataplane::id::{PayloadType, Ssrc};
use dataplane::wire::{
    BindingRequest, ExtensionBlock, IntegrityKey, ReportBlock, RtcpPacket, RtcpWriter, RtpHeader,
    RtpView, rtcp as views,
};
use rtc_crypto::providers::AwsLcRsCrypto;
use rtc_shared::marshal::Unmarshal;
use stun::integrity::MessageIntegrity;
use stun::message::Message;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 25;
const CALLS: u64 = 10_000;

/// CPU nanoseconds and allocations of one call.
fn cost(mut work: impl FnMut()) -> (f64, u64) {
    let ns = per_call(ROUNDS, CALLS, |_| work());
    let before = allocations::count();
    work();
    (ns, allocations::count() - before)
}

fn row(table: &Table, what: &str, ours: (f64, u64), theirs: (f64, u64)) {
    table.row(&[
        Cell::text(what),
        Cell::Value(ours.0, 0),
        Cell::Count(ours.1),
        Cell::Value(theirs.0, 0),
        Cell::Count(theirs.1),
    ]);
}

/// A packet with three header extensions, and 160 bytes behind them.
fn rtp(table: &Table) {
    let mut extensions = ExtensionBlock::new();
    extensions.push(1, &[60]);
    extensions.push(3, &[1, 2, 3]);
    extensions.push(4, b"0");
    let header = RtpHeader {
        marker: false,
        payload_type: PayloadType(96),
        sequence: 1,
        timestamp: 5,
        ssrc: Ssrc(9),
        padding: false,
    };
    let mut packet = vec![0; 1_000];
    let len = header
        .write(&mut packet, &extensions)
        .expect("the room is enough");
    packet.truncate(len + 160);
    let ours = cost(|| {
        let view = RtpView::parse(black_box(&packet)).expect("a sound packet");
        black_box((view.ssrc(), view.sequence(), view.payload_type()));
        black_box((view.timestamp(), view.marker()));
        view.extensions().for_each(|element| {
            black_box(element);
        });
    });
    let theirs = cost(|| {
        let header = rtp::Header::unmarshal(&mut black_box(&packet[..])).expect("a sound packet");
        black_box(header);
    });
    row(table, "RTP header, three extensions", ours, theirs);
}

/// What a subscriber sends: how it receives, what it lacks, and that it needs a key frame.
fn rtcp(table: &Table) {
    let mut room = [0; 300];
    let mut writer = RtcpWriter::new(&mut room);
    let block = ReportBlock {
        ssrc: Ssrc(1),
        fraction_lost: 0,
        lost: 0,
        highest_sequence: 0,
        jitter: 0,
        last_sr: 0,
        delay_since_last_sr: 0,
    };
    let written = writer.receiver_report(Ssrc(1), &[block])
        && writer.nack(Ssrc(1), Ssrc(2), [1, 2, 5].into_iter())
        && writer.pli(Ssrc(1), Ssrc(2));
    assert!(written, "the room is enough");
    let len = writer.len();
    let compound = &room[..len];
    let ours = cost(|| views::packets(black_box(compound)).for_each(|packet| read(&packet)));
    let theirs = cost(|| {
        let packets = rtcp::packet::unmarshal(&mut black_box(compound));
        black_box(packets.expect("a sound compound"));
    });
    row(table, "RTCP RR, NACK, PLI", ours, theirs);
}

fn read(packet: &Result<RtcpPacket<'_>, dataplane::wire::Malformed>) {
    match packet {
        Ok(RtcpPacket::ReceiverReport { blocks, .. }) => {
            blocks.clone().for_each(|block| {
                black_box(block);
            });
        }
        Ok(RtcpPacket::Nack { lost, .. }) => {
            lost.clone().for_each(|number| {
                black_box(number);
            });
        }
        other => {
            black_box(other);
        }
    }
}

/// A connectivity check, authenticated.
fn stun(table: &Table) {
    let (check, password) = (call::check(1), call::password(1));
    let key = IntegrityKey::new(&password);
    let ours = cost(|| {
        let request = BindingRequest::parse(black_box(&check));
        let request = request.ok().flatten().expect("a sound check");
        assert!(request.verify(&key));
    });
    let theirs = cost(|| {
        let mut message = Message::new();
        message
            .unmarshal_binary(black_box(&check))
            .expect("a sound check");
        MessageIntegrity::check(&mut message, password.as_bytes(), &AwsLcRsCrypto)
            .expect("the right password");
    });
    row(table, "STUN check, integrity verified", ours, theirs);
}

fn main() {
    cpu::pin(cpu::MEASURED_CORE);
    let table = Table::new(
        "parsers",
        "Reading a packet, CPU ns and allocations",
        &["what", "ns", "allocations", "crate_ns", "crate_allocations"],
    );
    rtp(&table);
    rtcp(&table);
    stun(&table);
}
