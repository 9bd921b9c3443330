//! Sealing, opening and reading packets allocates nothing: not in Rust, and not in the C of aws-lc,
//! which is why `malloc` itself is counted and not Rust's global allocator.
#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(unsafe_code, reason = "counting allocations takes the place of malloc")]

use std::cell::Cell;
use std::ffi::c_void;

use dataplane::command::{MasterKey, SrtpKeys, SrtpProfile};
use dataplane::id::{PayloadType, Ssrc};
use dataplane::srtp::{OpenKey, RtcpKeys, SealKey, SequenceWindow};
use dataplane::wire::{
    BindingRequest, ExtensionBlock, IntegrityKey, RtcpWriter, RtpHeader, RtpView, rtcp,
    write_binding_success,
};

unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: has the signature and meaning of malloc, and is the only definition in this program.
#[unsafe(no_mangle)]
extern "C" fn malloc(size: usize) -> *mut c_void {
    count();
    // SAFETY: glibc's own malloc takes any size; its blocks are freed by glibc's free.
    unsafe { __libc_malloc(size) }
}

// SAFETY: has the signature and meaning of calloc, and is the only definition in this program.
#[unsafe(no_mangle)]
extern "C" fn calloc(members: usize, size: usize) -> *mut c_void {
    count();
    // SAFETY: as for malloc.
    unsafe { __libc_calloc(members, size) }
}

// SAFETY: has the signature and meaning of realloc, and is the only definition in this program.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    count();
    // SAFETY: the caller gives a block of glibc's, as realloc asks for.
    unsafe { __libc_realloc(block, size) }
}

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const PROFILES: [(SrtpProfile, usize, usize); 3] = [
    (SrtpProfile::AeadAes128Gcm, 16, 12),
    (SrtpProfile::AeadAes256Gcm, 32, 12),
    (SrtpProfile::Aes128CmHmacSha1_80, 16, 14),
];

fn master((_, key_len, salt_len): (SrtpProfile, usize, usize)) -> MasterKey {
    MasterKey {
        key: vec![7; key_len],
        salt: vec![9; salt_len],
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    // What aws-lc allocates is seen too: a signing key lives on its heap.
    let generated = allocations(|| {
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        drop(aws_lc_rs::signature::EcdsaKeyPair::generate(algorithm));
    });
    assert!(generated > 3, "{generated}");
}

#[test]
fn media_is_sealed_and_opened_without_allocation() {
    for profile in PROFILES {
        let seal = SealKey::new(profile.0, &master(profile)).unwrap();
        let open = OpenKey::new(profile.0, &master(profile)).unwrap();
        let mut window = SequenceWindow::new();
        let mut packet = [0; 1500];
        let mut plaintext = [0; 1500];
        let payload = [5; 1150];
        // The first failure of a thread makes aws-lc's record of errors, which stays.
        assert!(
            open.open_rtp(&packet[..100], 12, 0, &mut plaintext)
                .is_err()
        );
        let counted = allocations(|| {
            for index in 65_000..66_000u64 {
                let mut extensions = ExtensionBlock::new();
                assert!(extensions.push(1, b"0") && extensions.push(3, &[1, 2, 3]));
                let header = RtpHeader {
                    marker: false,
                    payload_type: PayloadType(96),
                    sequence: index as u16,
                    timestamp: 1,
                    ssrc: Ssrc(2),
                    padding: true,
                };
                let header_len = header.write(&mut packet, &extensions).unwrap();
                let len = seal
                    .seal_rtp(&mut packet, header_len, &payload, 20, index)
                    .unwrap();

                let view = RtpView::parse(&packet[..len]).unwrap();
                assert_eq!(view.extensions().count(), 2);
                let index = window.estimate(view.sequence());
                assert!(window.is_fresh(index));
                let opened =
                    open.open_rtp(&packet[..len], view.header_len(), index, &mut plaintext);
                assert_eq!(opened, Ok(1170));
                window.accept(index);

                let len = seal
                    .seal_rtp_in_place(&mut packet, header_len, 1150, index + 10_000)
                    .unwrap();
                packet[len - 1] ^= 1;
                assert!(
                    open.open_rtp(&packet[..len], header_len, index + 10_000, &mut plaintext)
                        .is_err()
                );
            }
        });
        assert_eq!(counted, 0, "{:?}", profile.0);
    }
}

#[test]
fn control_packets_of_a_known_source_cost_no_allocation() {
    for profile in PROFILES {
        let keys = SrtpKeys {
            profile: profile.0,
            receive: master(profile),
            send: master(profile),
        };
        let mut keys = RtcpKeys::new(&keys).unwrap();
        let mut round = |expected: u64| {
            let counted = allocations(|| {
                let (mut compound, mut sealed, mut opened) = ([0; 200], [0; 300], [0; 300]);
                let mut writer = RtcpWriter::new(&mut compound);
                assert!(writer.receiver_report(Ssrc(1), &[]));
                assert!(writer.nack(Ssrc(1), Ssrc(2), 10..40));
                let compound_len = writer.len();
                let len = keys.seal(&compound[..compound_len], &mut sealed).unwrap();
                assert_eq!(keys.open(&sealed[..len], &mut opened), Ok(compound_len));
                let lost = rtcp::packets(&opened[..compound_len])
                    .flatten()
                    .map(|packet| match packet {
                        rtcp::RtcpPacket::Nack { lost, .. } => lost.count(),
                        _ => 0,
                    });
                assert_eq!(lost.sum::<usize>(), 30);
            });
            assert!(counted <= expected, "{:?}: {counted}", profile.0);
        };
        // The first packet of a source makes room for its replay window.
        round(1);
        round(0);
        round(0);
    }
}

#[test]
fn connectivity_checks_are_verified_and_answered_without_allocation() {
    let key = IntegrityKey::new("a password of twenty-two");
    let mut request = Vec::from(*b"\0\x01\0\0\x21\x12\xA4\x42abcdefghijkl");
    request.extend(*b"\0\x06\0\x05us:em\0\0\0\0\x24\0\x04\0\0\0\x01\0\x08\0\x14");
    request.extend([0; 20]);
    request[3] = (request.len() - 20) as u8;
    let mut answer = [0; 128];
    let counted = allocations(|| {
        let check = BindingRequest::parse(&request).unwrap().unwrap();
        assert!(!check.verify(&key), "zeros are no integrity");
        let mapped = "192.0.2.1:5000".parse().unwrap();
        assert!(write_binding_success(&mut answer, check.transaction(), mapped, &key).is_some());
    });
    assert_eq!(counted, 0);
}
