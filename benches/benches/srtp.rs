//! What do SRTP's transforms cost: ours, and those of `webrtc-srtp` (which allocates its results)?
//! And is a subscriber's packet cheaper sealed straight from the log, or copied and sealed in place?
//! What do thousands of keys cost, and what is won by making the tags of a burst together?
//!
//! `cargo bench -p benches --bench srtp`, with `-- --json` for programs.

use std::hint::black_box;

use benches::cpu::{self, median, per_call};
use benches::table::{Cell, Table};
use dataplane::command::{MasterKey, SrtpProfile};
use dataplane::id::{PayloadType, Ssrc};
use dataplane::limits::DATAGRAM_BYTES_MAX;
use dataplane::srtp::{OpenKey, SealKey};
use dataplane::wire::{ExtensionBlock, RtpHeader};
use rtc_crypto::providers::AwsLcRsCrypto;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

const ROUNDS: usize = 25;
const CALLS: u64 = 4_000;

/// Packets of a frame, as they leave for one subscriber after the other.
const BURST: usize = 10;
const SUBSCRIBERS: usize = 50;

/// Packets in the log that is sealed from: a video track's.
const LOG_PACKETS: usize = dataplane::limits::VIDEO_LOG_PACKETS;

/// Subscribers whose keys are used in turn.
const KEYS: [usize; 4] = [10, 100, 1_000, 10_000];
const KEY_ROUNDS: usize = 9;

const PROFILES: [(SrtpProfile, ProtectionProfile); 3] = [
    (SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
    (SrtpProfile::AeadAes256Gcm, ProtectionProfile::AeadAes256Gcm),
    (
        SrtpProfile::Aes128CmHmacSha1_80,
        ProtectionProfile::Aes128CmHmacSha1_80,
    ),
];

fn name(profile: SrtpProfile) -> &'static str {
    match profile {
        SrtpProfile::AeadAes128Gcm => "AEAD_AES_128_GCM",
        SrtpProfile::AeadAes256Gcm => "AEAD_AES_256_GCM",
        SrtpProfile::Aes128CmHmacSha1_80 => "AES128_CM_HMAC_SHA1_80",
    }
}

fn master(profile: SrtpProfile, number: usize) -> MasterKey {
    let (key_len, salt_len) = match profile {
        SrtpProfile::AeadAes128Gcm => (16, 12),
        SrtpProfile::AeadAes256Gcm => (32, 12),
        SrtpProfile::Aes128CmHmacSha1_80 => (16, 14),
    };
    MasterKey {
        key: vec![number as u8; key_len],
        salt: vec![3; salt_len],
    }
}

fn seal_key(profile: SrtpProfile, number: usize) -> SealKey {
    SealKey::new(profile, &master(profile, number)).expect("a key of the profile's length")
}

/// A header as video has it, at the start of a slot; its length.
fn write_header(slot: &mut [u8]) -> usize {
    let mut extensions = ExtensionBlock::new();
    extensions.push(4, b"0");
    extensions.push(3, &[1, 2, 3]);
    let header = RtpHeader {
        marker: false,
        payload_type: PayloadType(96),
        sequence: 1,
        timestamp: 5,
        ssrc: Ssrc(9),
        padding: false,
    };
    header
        .write(slot, &extensions)
        .expect("a slot is longer than a header")
}

fn transforms(table: &Table, ours: SrtpProfile, theirs: ProtectionProfile, payload_len: usize) {
    let (seal, mut context) = (seal_key(ours, 0), context(ours, theirs));
    let open = OpenKey::new(ours, &master(ours, 0)).expect("a key of the profile's length");
    let payload = vec![7; payload_len];
    let mut slot = vec![0; DATAGRAM_BYTES_MAX];
    let header_len = write_header(&mut slot);
    let scatter = per_call(ROUNDS, CALLS, |index| {
        black_box(seal.seal_rtp(&mut slot, header_len, black_box(&payload), 0, index));
    });
    let in_place = per_call(ROUNDS, CALLS, |index| {
        black_box(seal.seal_rtp_in_place(&mut slot, header_len, payload_len, index));
    });
    let len = seal.seal_rtp(&mut slot, header_len, &payload, 0, 1);
    let sealed = slot[..len.unwrap_or(0)].to_vec();
    let mut out = vec![0; DATAGRAM_BYTES_MAX];
    let opened = per_call(ROUNDS, CALLS, |_| {
        let opened = open.open_rtp(black_box(&sealed), header_len, 1, &mut out);
        assert_eq!(black_box(opened), Ok(payload_len));
    });
    let mut plain = slot[..header_len].to_vec();
    plain.extend(&payload);
    let crate_seal = per_call(ROUNDS, CALLS, |_| {
        assert!(black_box(context.encrypt_rtp(black_box(&plain))).is_ok());
    });
    let crate_open = per_call(ROUNDS, CALLS, |_| {
        assert!(black_box(context.decrypt_rtp(black_box(&sealed))).is_ok());
    });
    table.row(&[
        Cell::text(name(ours)),
        Cell::Count(payload_len as u64),
        Cell::Value(scatter, 0),
        Cell::Value(in_place, 0),
        Cell::Value(opened, 0),
        Cell::Value(crate_seal, 0),
        Cell::Value(crate_open, 0),
    ]);
}

fn context(ours: SrtpProfile, theirs: ProtectionProfile) -> Context {
    let master = master(ours, 0);
    Context::new(
        &master.key,
        &master.salt,
        theirs,
        None,
        None,
        &AwsLcRsCrypto,
    )
    .expect("a key of the profile's length")
}

/// Seals bursts from a log for each subscriber in turn, by `seal`; CPU nanoseconds per packet.
fn from_log(
    log: &[u8],
    payload_len: usize,
    first: &mut usize,
    mut seal: impl FnMut(usize, &[u8], &mut [u8], u64),
) -> f64 {
    let mut slot = vec![0; BURST * DATAGRAM_BYTES_MAX];
    slot.chunks_mut(DATAGRAM_BYTES_MAX).for_each(|room| {
        write_header(room);
    });
    let start = cpu::of_this_thread_ns();
    for _ in 0..BURST {
        for subscriber in 0..SUBSCRIBERS {
            for (n, room) in slot.chunks_mut(DATAGRAM_BYTES_MAX).enumerate() {
                let at = (*first + n) % LOG_PACKETS * DATAGRAM_BYTES_MAX;
                let payload = &log[at..at + payload_len];
                seal(subscriber, payload, room, (*first + n) as u64);
            }
        }
        *first += BURST;
    }
    let packets = BURST * SUBSCRIBERS * BURST;
    (cpu::of_this_thread_ns() - start) as f64 / packets as f64
}

fn log(table: &Table, profile: SrtpProfile, payload_len: usize) {
    let keys: Vec<SealKey> = (0..SUBSCRIBERS).map(|n| seal_key(profile, n)).collect();
    let log = vec![7; LOG_PACKETS * DATAGRAM_BYTES_MAX];
    let header_len = write_header(&mut [0; DATAGRAM_BYTES_MAX]);
    let (mut one_pass, mut copied, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut other_first) = (0, 0);
    for _ in 0..ROUNDS {
        let straight = from_log(&log, payload_len, &mut first, |n, payload, room, index| {
            black_box(keys[n].seal_rtp(room, header_len, payload, 0, index));
        });
        let copy = from_log(
            &log,
            payload_len,
            &mut other_first,
            |n, payload, room, index| {
                room[header_len..header_len + payload.len()].copy_from_slice(payload);
                black_box(keys[n].seal_rtp_in_place(room, header_len, payload.len(), index));
            },
        );
        one_pass.push(straight);
        copied.push(copy);
        ratios.push(copy / straight);
    }
    table.row(&[
        Cell::text(name(profile)),
        Cell::Count(payload_len as u64),
        Cell::Value(median(&mut one_pass), 0),
        Cell::Value(median(&mut copied), 0),
        Cell::Value(median(&mut ratios), 2),
    ]);
}

/// Packets for as many subscribers as there are keys, one after the other.
fn keys(table: &Table, profile: SrtpProfile, payload_len: usize) {
    let payload = vec![7; payload_len];
    let mut slot = vec![0; DATAGRAM_BYTES_MAX];
    let header_len = write_header(&mut slot);
    let mut cells = vec![Cell::text(name(profile)), Cell::Count(payload_len as u64)];
    for count in KEYS {
        let keys: Vec<SealKey> = (0..count).map(|n| seal_key(profile, n)).collect();
        let ns = per_call(KEY_ROUNDS, CALLS.max(count as u64), |index| {
            let key = &keys[index as usize % count];
            black_box(key.seal_rtp(&mut slot, header_len, black_box(&payload), 0, index));
        });
        cells.push(Cell::Value(ns, 0));
    }
    table.row(&cells);
}

/// A burst in counter mode: each packet with its tag, and all tags together.
fn burst(table: &Table, payload_len: usize, count: usize) {
    let key = seal_key(SrtpProfile::Aes128CmHmacSha1_80, 0);
    let payload = vec![7; payload_len];
    let header_len = write_header(&mut [0; DATAGRAM_BYTES_MAX]);
    let segment = header_len + payload_len + key.overhead();
    let mut slot = vec![0; count * segment];
    slot.chunks_mut(segment).for_each(|room| {
        write_header(room);
    });
    let indices: Vec<u64> = (0..count as u64).collect();
    let calls = CALLS / count as u64;
    let (mut singly, mut together, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..KEY_ROUNDS {
        let one = per_call(1, calls, |_| {
            for (room, index) in slot.chunks_mut(segment).zip(&indices) {
                black_box(key.seal_rtp(room, header_len, &payload, 0, *index));
            }
        });
        let all = per_call(1, calls, |_| {
            for (room, index) in slot.chunks_mut(segment).zip(&indices) {
                black_box(key.seal_rtp_of_burst(room, header_len, &payload, 0, *index));
            }
            black_box(key.sign_burst(&mut slot, segment, &indices));
        });
        singly.push(one / count as f64);
        together.push(all / count as f64);
        ratios.push(all / one);
    }
    table.row(&[
        Cell::Count(payload_len as u64),
        Cell::Count(count as u64),
        Cell::Value(median(&mut singly), 0),
        Cell::Value(median(&mut together), 0),
        Cell::Value(median(&mut ratios), 2),
    ]);
}

fn main() {
    cpu::pin(cpu::MEASURED_CORE);
    let table = Table::new(
        "srtp",
        "SRTP, one key, CPU ns per packet",
        &[
            "profile",
            "payload",
            "seal",
            "seal_in_place",
            "open",
            "webrtc_srtp_seal",
            "webrtc_srtp_open",
        ],
    );
    for (ours, theirs) in PROFILES {
        for payload in [160, 1150] {
            transforms(&table, ours, theirs, payload);
        }
    }
    let table = Table::new(
        "sealing_from_the_log",
        "Sealing from the log, bursts of 10 for 50 subscribers, CPU ns per packet",
        &[
            "profile",
            "payload",
            "one_pass",
            "copy_and_in_place",
            "ratio",
        ],
    );
    for (ours, _) in PROFILES {
        for payload in [160, 1150] {
            log(&table, ours, payload);
        }
    }
    let table = Table::new(
        "keys",
        "A packet for each key in turn, CPU ns per packet by keys",
        &["profile", "payload", "10", "100", "1000", "10000"],
    );
    for (ours, _) in PROFILES {
        for payload in [160, 1150] {
            keys(&table, ours, payload);
        }
    }
    let table = Table::new(
        "counter_mode_bursts",
        "Bursts in counter mode, tags one by one and together, CPU ns per packet",
        &["payload", "burst", "one_by_one", "together", "ratio"],
    );
    for payload in [160, 1150] {
        for count in [1, 2, 3, 4, 5, 6, 8, 10, 16, 32] {
            burst(&table, payload, count);
        }
    }
}
