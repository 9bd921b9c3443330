//! Trickle-ICE fragments (RFC 8840 section 9), the bodies of WHIP's and WHEP's `PATCH`.

use super::candidate::{Candidate, is_candidate, write_candidates};
use super::quote;
use super::transport::IceCredentials;

/// A fragment that a client sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The client's credentials: other ones than before ask for an ICE restart.
    pub ice: Option<IceCredentials>,
    /// How many candidates it holds. They are not kept: checks tell us the client's addresses.
    pub candidates: usize,
    /// `a=end-of-candidates`
    pub end_of_candidates: bool,
}

/// Why a fragment was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// More than [`Fragment::LEN_MAX`] bytes.
    #[error("the fragment has {0} bytes: at most {max} are read", max = Fragment::LEN_MAX)]
    TooLong(usize),
    /// A line that is no SDP.
    #[error(
        "line {line} of the fragment, `{written}`, is not SDP: a line is a letter, `=` and a value"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What it says.
        written: String,
    },
    /// A candidate that is none.
    #[error("`a=candidate:{0}` is malformed: RFC 8839 section 5.1 has the grammar")]
    BadCandidate(String),
    /// A ufrag without pwd, a pwd without ufrag, or either malformed.
    #[error(
        "the fragment's ICE credentials are malformed: `a=ice-ufrag` of 4 to 256 characters and `a=ice-pwd` of 22 to 256 belong together"
    )]
    BadIce,
    /// Sections that disagree.
    #[error(
        "the fragment's sections have different ICE credentials: all media shares one transport here"
    )]
    ConflictingIce,
    /// Neither credentials nor candidates.
    #[error("the fragment says nothing: send ICE credentials, candidates or `a=end-of-candidates`")]
    Nothing,
}

impl Fragment {
    /// The longest text that is read, bytes: hundreds of candidates.
    pub const LEN_MAX: usize = 64 * 1024;

    /// Reads a body of type `application/trickle-ice-sdpfrag`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the fragment and what would be right.
    pub fn parse(text: &str) -> Result<Fragment, FragmentError> {
        if text.len() > Fragment::LEN_MAX {
            return Err(FragmentError::TooLong(text.len()));
        }
        let mut fragment = Fragment::default();
        let (mut ufrag, mut pwd) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            let shaped =
                matches!(line.as_bytes(), [letter, b'=', ..] if letter.is_ascii_lowercase());
            if !shaped && !line.is_empty() {
                return Err(FragmentError::Line {
                    line: index + 1,
                    written: quote(line),
                });
            }
            let Some(attribute) = line.strip_prefix("a=") else {
                continue;
            };
            match attribute.split_once(':').unwrap_or((attribute, "")) {
                ("ice-ufrag", value) => set(&mut ufrag, value)?,
                ("ice-pwd", value) => set(&mut pwd, value)?,
                ("candidate", value) if is_candidate(value) => fragment.candidates += 1,
                ("candidate", value) => return Err(FragmentError::BadCandidate(quote(value))),
                ("end-of-candidates", _) => fragment.end_of_candidates = true,
                _ => {}
            }
        }
        fragment.ice = match (ufrag, pwd) {
            (None, None) => None,
            (Some(ufrag), Some(pwd)) => {
                let ice = IceCredentials {
                    ufrag: ufrag.to_owned(),
                    pwd: pwd.to_owned(),
                };
                Some(ice)
                    .filter(IceCredentials::is_valid)
                    .ok_or(FragmentError::BadIce)
                    .map(Some)?
            }
            _ => return Err(FragmentError::BadIce),
        };
        let says = fragment.ice.is_some() || fragment.candidates > 0 || fragment.end_of_candidates;
        if says {
            Ok(fragment)
        } else {
            Err(FragmentError::Nothing)
        }
    }
}

/// Credentials may stand for the session and again in each section, but only the same ones.
fn set<'a>(slot: &mut Option<&'a str>, value: &'a str) -> Result<(), FragmentError> {
    let value = value.trim();
    match slot {
        Some(first) if *first != value => Err(FragmentError::ConflictingIce),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Our answer to an ICE restart (RFC 9725 section 4.3.3): new credentials and all candidates, for
/// the section that carries the bundle.
#[must_use]
pub fn restart_fragment(ice: &IceCredentials, candidates: &[Candidate], mid: &str) -> String {
    let IceCredentials { ufrag, pwd } = ice;
    // The section's line only marks where it begins; its content means nothing (RFC 8840 section 9).
    let mut text = format!(
        "a=ice-lite\r\na=group:BUNDLE {mid}\r\nm=audio 9 RTP/AVP 0\r\na=mid:{mid}\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"
    );
    write_candidates(&mut text, candidates);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PWD: &str = "P2uYro0UCOQ4zxjKXaWCBui1";

    #[test]
    fn an_ice_restart_is_read() {
        // The example of RFC 9725 section 4.3.3, shortened.
        let text = format!(
            "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n\
             a=ice-ufrag:ysXw\r\na=ice-pwd:{PWD}\r\n\
             a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag ysXw network-id 1\r\n\
             a=end-of-candidates\r\n"
        );
        let fragment = Fragment::parse(&text).unwrap();
        let ice = IceCredentials {
            ufrag: "ysXw".into(),
            pwd: PWD.into(),
        };
        assert_eq!(
            fragment,
            Fragment {
                ice: Some(ice),
                candidates: 1,
                end_of_candidates: true
            }
        );
    }

    #[test]
    fn malformed_fragments_are_refused() {
        let refused = |text: &str| Fragment::parse(text).unwrap_err();
        assert_eq!(
            refused("m=audio 9 RTP/AVP 0\r\na=mid:0\r\n"),
            FragmentError::Nothing
        );
        assert_eq!(refused("a=ice-ufrag:abcd\r\n"), FragmentError::BadIce);
        assert_eq!(
            refused(&format!("a=ice-ufrag:a\r\na=ice-pwd:{PWD}\r\n")),
            FragmentError::BadIce
        );
        assert!(matches!(
            refused("a=candidate:1 1 udp\r\n"),
            FragmentError::BadCandidate(_)
        ));
        assert!(matches!(
            refused("hello\r\n"),
            FragmentError::Line { line: 1, .. }
        ));
        let two = format!("a=ice-ufrag:abcd\r\na=ice-pwd:{PWD}\r\na=ice-ufrag:efgh\r\n");
        assert_eq!(refused(&two), FragmentError::ConflictingIce);
        let long = "a=end-of-candidates\r\n".repeat(4096);
        assert_eq!(refused(&long), FragmentError::TooLong(long.len()));
    }

    #[test]
    fn our_restart_reads_back() {
        let ice = IceCredentials {
            ufrag: "ours".into(),
            pwd: PWD.into(),
        };
        let candidate = Candidate {
            address: "[2001:db8::1]:3478".parse().unwrap(),
            tcp: false,
        };
        let text = restart_fragment(
            &ice,
            &[
                candidate,
                Candidate {
                    tcp: true,
                    ..candidate
                },
            ],
            "0",
        );
        let read = Fragment::parse(&text).unwrap();
        assert_eq!(
            read,
            Fragment {
                ice: Some(ice),
                candidates: 2,
                end_of_candidates: true
            }
        );
        assert!(text.contains("a=mid:0\r\n"));
    }
}
