//! Published test vectors, against our transforms.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};

use super::cipher::{Cipher, Envelope, Tag};
use super::derivation::{Derivation, Label};
use crate::command::{MasterKey, SrtpProfile};

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 3711 appendix B.3: key derivation.
#[test]
fn t_21_session_keys_of_rfc_3711() {
    let master = MasterKey {
        key: hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
        salt: hex("0EC675AD498AFEEBB6960B3AABE6"),
    };
    let derivation = Derivation::new(SrtpProfile::Aes128CmHmacSha1_80, &master).unwrap();
    let key: [u8; 16] = *derivation.derive(Label::RtpEncryption).unwrap();
    assert_eq!(key[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    let salt: [u8; 14] = *derivation.derive(Label::RtpSalt).unwrap();
    assert_eq!(salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
    let authentication: [u8; 94] = *derivation.derive(Label::RtpAuthentication).unwrap();
    assert_eq!(
        authentication[..],
        hex(
            "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
             E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
             6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2"
        )
    );
}

/// RFC 6188 section 7.4: key derivation with 256 bits.
#[test]
fn t_21_session_keys_of_rfc_6188() {
    let master = MasterKey {
        key: hex("f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6"),
        salt: hex("3b04803de51ee7c96423ab5b"),
    };
    let derivation = Derivation::new(SrtpProfile::AeadAes256Gcm, &master).unwrap();
    // The RFC's salt has two more bytes (78d2), which counter mode takes and GCM does not.
    let derivation = derivation.with_salt_tail([0x78, 0xd2]);
    let key: [u8; 32] = *derivation.derive(Label::RtpEncryption).unwrap();
    assert_eq!(
        key[..],
        hex("5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4")
    );
    let salt: [u8; 14] = *derivation.derive(Label::RtpSalt).unwrap();
    assert_eq!(salt[..], hex("fa31791685ca444a9e07c6c64e93"));
    let authentication: [u8; 20] = *derivation.derive(Label::RtpAuthentication).unwrap();
    assert_eq!(
        authentication[..],
        hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05")
    );
}

/// RFC 3711 appendix B.2: the key stream of AES counter mode.
#[test]
fn t_21_key_stream_of_rfc_3711() {
    let cipher = Cipher::counter_mode(
        &hex("2B7E151628AED2A6ABF7158809CF4F3C"),
        &[0; 20],
        hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap(),
    )
    .unwrap();
    let envelope = Envelope {
        header: &[],
        ssrc: [0; 4],
        index: 0,
        trailer: [0; 4],
    };
    let mut stream = vec![0; 0xFF02 * 16];
    cipher
        .seal_in_place(&envelope, &mut stream, &mut [0; 10], Tag::Now)
        .unwrap();
    let block = |number: usize| &stream[number * 16..][..16];
    for (number, expected) in [
        (0x0000, "E03EAD0935C95E80E166B16DD92B4EB4"),
        (0x0001, "D23513162B02D0F72A43A2FE4A5F97AB"),
        (0x0002, "41E95B3BB0A2E8DD477901E4FCA894C0"),
        (0xFEFF, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
        (0xFF00, "362B7C3C6773516318A077D7FC5073AE"),
        (0xFF01, "6A2CC3787889374FBEB4C81B17BA6C44"),
    ] {
        assert_eq!(block(number), hex(expected), "block {number:#x}");
    }
}

const GCM_SALT: [u8; 12] = *b"Quid pro quo";
const GCM_HEADER: &str = "8040f17b 8041f8d3 5501a0b2";
const GCM_PAYLOAD: &[u8] = b"Gallia est omnis divisa in partes tres";

/// Seals and opens by session keys as RFC 7714 gives them.
fn check_gcm(cipher: &Cipher, envelope: &Envelope<'_>, payload: &[u8], sealed: &[u8]) {
    let mut out = vec![0; payload.len() + 16];
    cipher
        .seal(envelope, payload, &[], &mut out, Tag::Now)
        .unwrap();
    assert_eq!(out, sealed);
    // The end of the payload given as filler makes no difference.
    let (start, end) = payload.split_at(payload.len() - 5);
    cipher
        .seal(envelope, start, end, &mut out, Tag::Now)
        .unwrap();
    assert_eq!(out, sealed);
    let mut in_place = payload.to_vec();
    let mut tag = [0; 16];
    cipher
        .seal_in_place(envelope, &mut in_place, &mut tag, Tag::Now)
        .unwrap();
    assert_eq!([&in_place[..], &tag].concat(), sealed);

    let (ciphertext, tag) = sealed.split_at(payload.len());
    let mut plaintext = vec![0; payload.len()];
    cipher
        .open(envelope, ciphertext, tag, &mut plaintext)
        .unwrap();
    assert_eq!(plaintext, payload);
    assert!(
        cipher
            .open(envelope, ciphertext, &tag[..15], &mut plaintext)
            .is_none()
    );
}

/// RFC 7714 section 16.1.
#[test]
fn t_21_srtp_aes_128_gcm_of_rfc_7714() {
    let key = UnboundKey::new(&AES_128_GCM, &hex("000102030405060708090a0b0c0d0e0f")).unwrap();
    let cipher = Cipher::Gcm {
        key: LessSafeKey::new(key),
        salt: GCM_SALT,
    };
    let header = hex(GCM_HEADER);
    let envelope = Envelope {
        header: &header,
        ssrc: [0x55, 0x01, 0xa0, 0xb2],
        index: 0xf17b,
        trailer: [0; 4],
    };
    let sealed = hex(
        "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a
                      51c7d19b 36de3adf 8833 899d7f27 beb16a91 52cf765e e4390cce",
    );
    check_gcm(&cipher, &envelope, GCM_PAYLOAD, &sealed);
}

/// RFC 7714 section 16.2.
#[test]
fn t_21_srtp_aes_256_gcm_of_rfc_7714() {
    let key: Vec<u8> = (0..32).collect();
    let key = UnboundKey::new(&AES_256_GCM, &key).unwrap();
    let cipher = Cipher::Gcm {
        key: LessSafeKey::new(key),
        salt: GCM_SALT,
    };
    let header = hex(GCM_HEADER);
    let envelope = Envelope {
        header: &header,
        ssrc: [0x55, 0x01, 0xa0, 0xb2],
        index: 0xf17b,
        trailer: [0; 4],
    };
    let sealed = hex(
        "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02
                      76ffae0f 1ba63799 b87b 7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
    );
    check_gcm(&cipher, &envelope, GCM_PAYLOAD, &sealed);
}

/// RFC 7714 section 17.1: SRTCP.
#[test]
fn t_21_srtcp_aes_128_gcm_of_rfc_7714() {
    let key = UnboundKey::new(&AES_128_GCM, &hex("000102030405060708090a0b0c0d0e0f")).unwrap();
    let cipher = Cipher::Gcm {
        key: LessSafeKey::new(key),
        salt: GCM_SALT,
    };
    let header = hex("81c8000d 4d617273 800005d4");
    let envelope = Envelope {
        header: &header,
        ssrc: *b"Mars",
        index: 0x5d4,
        trailer: [0; 4],
    };
    let payload = hex("4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                       deadbeef deadbeef deadbeef deadbeef deadbeef");
    let sealed = hex(
        "63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
                      730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade",
    );
    check_gcm(&cipher, &envelope, &payload, &sealed);
}
