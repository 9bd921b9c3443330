//! Cameras, in the words of `/v1/cameras`, of a file of cameras and of the room protocol.
//!
//! An address is text here, which is shown nowhere: it often has a password in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::{PersonName, RoomName};
use crate::node::PersonId;

/// A camera that somebody wants in a room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraRequest {
    /// The room; made when it does not exist.
    pub room: RoomName,
    /// What the camera is called there.
    #[serde(default, deserialize_with = "shown_name")]
    pub name: PersonName,
    /// Where its picture is: this, or `layers`.
    #[serde(default)]
    pub url: Option<SecretUrl>,
    /// Several streams of the same picture, the smallest first.
    #[serde(default)]
    pub layers: Vec<CameraLayer>,
    /// How its packets travel.
    #[serde(default)]
    pub transport: CameraTransport,
    /// When it is pulled.
    #[serde(default)]
    pub mode: CameraMode,
    /// Whether an `rtsps` camera has to have a certificate that a public authority signed for its host.
    #[serde(default = "yes")]
    pub verify: bool,
}

/// One of several streams of a camera.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraLayer {
    /// Where it is.
    pub url: SecretUrl,
    /// What it is called among the layers (RFC 8851).
    pub rid: String,
}

/// An address that may hold credentials: it is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// An address as somebody wrote it.
    #[must_use]
    pub fn new(text: String) -> SecretUrl {
        SecretUrl(text)
    }

    /// The address, for whoever connects to it.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretUrl(..)")
    }
}

/// How a camera's packets travel (RFC 2326 section 12.39).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameraTransport {
    /// In the RTSP connection; over UDP where the camera refuses that.
    #[default]
    Auto,
    /// In the RTSP connection.
    Tcp,
    /// As datagrams.
    Udp,
}

/// When a camera is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameraMode {
    /// While somebody watches.
    #[default]
    OnDemand,
    /// All the time.
    Always,
}

/// How it is with a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CameraState {
    /// The node connects to it.
    Connecting,
    /// It is known, and nobody watches.
    Idle,
    /// Its packets come.
    Playing,
    /// It does not answer as it should; it is tried again.
    Away,
    /// It cannot be shown, and is not tried again.
    Refused,
}

impl CameraState {
    /// All of them.
    pub const ALL: [CameraState; 5] = [
        CameraState::Connecting,
        CameraState::Idle,
        CameraState::Playing,
        CameraState::Away,
        CameraState::Refused,
    ];

    /// Its name in JSON and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            CameraState::Connecting => "connecting",
            CameraState::Idle => "idle",
            CameraState::Playing => "playing",
            CameraState::Away => "away",
            CameraState::Refused => "refused",
        }
    }
}

/// A camera, as `/v1/cameras` shows it: without credentials.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraView {
    /// Its id, which is that of the person that it is in its room.
    pub id: PersonId,
    /// Its room.
    pub room: RoomName,
    /// What it is called there.
    pub name: PersonName,
    /// How it is with it.
    pub state: CameraState,
    /// Whether it is pulled, or would be if it answered.
    pub wanted: bool,
    /// How its packets travel.
    pub transport: CameraTransport,
    /// When it is pulled.
    pub mode: CameraMode,
    /// Its pictures, the smallest first.
    pub video: Vec<CameraVideo>,
    /// How its sound is coded; none without any.
    pub audio: Option<&'static str>,
    /// What last went wrong, in a sentence.
    pub error: Option<String>,
    /// Milliseconds until it is tried again, as of when it was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
    /// Sentences about what of it is not forwarded, and why.
    pub remarks: Vec<String>,
}

/// One picture of a camera.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CameraVideo {
    /// Where it is, without credentials.
    pub url: String,
    /// What it is called among the layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// How it is coded; none before that is known, or where it cannot be forwarded.
    pub codec: Option<String>,
    /// Width in pixels, once known.
    pub width: Option<u32>,
    /// Height in pixels, once known.
    pub height: Option<u32>,
    /// Pictures per second, while it is pulled.
    pub frame_rate: f32,
    /// Bits per second, while it is pulled.
    pub bitrate_bps: u64,
    /// Packets so far.
    pub packets: u64,
    /// Packets that did not come so far.
    pub lost: u64,
    /// Whether pictures refer to later ones, which browsers show badly.
    pub b_frames: bool,
}

/// What a parser says about a description, without what it quotes where that may be an address.
#[must_use]
pub fn without_secrets(said: &str) -> String {
    if said.contains("type: string") || said.contains("://") {
        return "a field is of the wrong kind".to_owned();
    }
    said.chars()
        .filter(|c| !c.is_control())
        .take(SAID_CHARS_MAX)
        .collect()
}

/// The longest part of a parser's words that is passed on, in characters.
const SAID_CHARS_MAX: usize = 200;

fn yes() -> bool {
    true
}

/// Keeps what can be shown of a name.
fn shown_name<'de, D: serde::Deserializer<'de>>(input: D) -> Result<PersonName, D::Error> {
    Ok(PersonName::new(&String::deserialize(input)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_and_an_address_are_enough() {
        let text = r#"{"room":"gate","url":"rtsp://ann:s3cret@192.0.2.7/live"}"#;
        let request: CameraRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.transport, CameraTransport::Auto);
        assert_eq!(request.mode, CameraMode::OnDemand);
        assert!(request.verify);
        assert!(!format!("{request:?}").contains("s3cret"), "{request:?}");
        let url = request.url.unwrap();
        assert_eq!(url.secret(), "rtsp://ann:s3cret@192.0.2.7/live");
    }

    #[test]
    fn what_is_misspelt_is_not_passed_over() {
        for text in [
            r#"{"room":"gate","ulr":"rtsp://h/"}"#,
            r#"{"room":"a b","url":"rtsp://h/"}"#,
            r#"{"room":"gate","url":"rtsp://h/","mode":"sometimes"}"#,
            r#"{"room":"gate","layers":[{"url":"rtsp://h/"}]}"#,
        ] {
            assert!(
                serde_json::from_str::<CameraRequest>(text).is_err(),
                "{text}"
            );
        }
    }
}
