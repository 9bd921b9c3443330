//! A camera as somebody describes it, made into one that the lane can pull.

use std::collections::BTreeSet;

use signaling::camera::{CameraMode, CameraRequest, CameraTransport, SecretUrl};

use super::cameras::Placed;
use super::order::{CameraSource, CameraSpec, Identity, Mode, Transport, Trust};
use super::url::{BadCameraUrl, CameraUrl};

/// Streams of one camera that show the same: what browsers send of one picture, too.
const LAYERS_MAX: usize = 3;

/// The longest name of a layer, in characters: what a one-byte header extension can carry (RFC 8285 section 4.2).
const RID_LEN_MAX: usize = 16;

/// Why a description is none of a camera.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCamera {
    /// Nothing says where it is.
    #[error("it has no `url`; write one, or `layers` with a `url` and a `rid` each")]
    NoUrl,
    /// Two things say where it is.
    #[error("it has a `url` and `layers`; write one of them")]
    Both,
    /// Too many layers.
    #[error("it has {0} layers, and at most {LAYERS_MAX} are taken, the smallest first")]
    TooManyLayers(usize),
    /// A layer's name that is none, or that two layers have.
    #[error(
        "each layer needs a `rid` of its own: 1 to {RID_LEN_MAX} letters or digits, such as `l` and `h`"
    )]
    BadRid,
    /// An address that is none.
    #[error(transparent)]
    Url(#[from] BadCameraUrl),
}

/// Makes a description into a camera, whose addresses are of somebody who is trusted so much.
///
/// # Errors
/// A sentence that says what would be right, and does not hold an address.
pub fn placed(request: CameraRequest, trust: Trust) -> Result<Placed, BadCamera> {
    let sources = match (request.url, request.layers) {
        (None, layers) if layers.is_empty() => return Err(BadCamera::NoUrl),
        (Some(url), layers) if layers.is_empty() => vec![source(&url, None)?],
        (Some(_), _) => return Err(BadCamera::Both),
        (None, layers) if layers.len() > LAYERS_MAX => {
            return Err(BadCamera::TooManyLayers(layers.len()));
        }
        (None, layers) => {
            let mut known = BTreeSet::new();
            let mut sources = Vec::with_capacity(layers.len());
            for layer in layers {
                let fits = (1..=RID_LEN_MAX).contains(&layer.rid.len())
                    && layer.rid.bytes().all(|b| b.is_ascii_alphanumeric());
                if !fits || !known.insert(layer.rid.clone()) {
                    return Err(BadCamera::BadRid);
                }
                sources.push(source(&layer.url, Some(layer.rid))?);
            }
            sources
        }
    };
    let spec = CameraSpec {
        sources,
        trust,
        transport: match request.transport {
            CameraTransport::Auto => Transport::Auto,
            CameraTransport::Tcp => Transport::Tcp,
            CameraTransport::Udp => Transport::Udp,
        },
        identity: if request.verify {
            Identity::Verified
        } else {
            Identity::Any
        },
        mode: match request.mode {
            CameraMode::OnDemand => Mode::OnDemand,
            CameraMode::Always => Mode::Always,
        },
    };
    Ok(Placed {
        room: request.room,
        name: request.name,
        spec,
    })
}

fn source(url: &SecretUrl, rid: Option<String>) -> Result<CameraSource, BadCamera> {
    let url = CameraUrl::parse(url.secret())?;
    Ok(CameraSource { url, rid })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Placed, BadCamera> {
        let text = format!("{{\"room\":\"gate\"{rest}}}");
        placed(serde_json::from_str(&text).unwrap(), Trust::Request)
    }

    #[test]
    fn layers_are_sources_in_their_order() {
        let placed = read(
            r#","name":"Gate","verify":false,"mode":"always","transport":"udp",
               "layers":[{"url":"rtsp://h/2","rid":"l"},{"url":"rtsps://h/1","rid":"h"}]"#,
        )
        .unwrap();
        let rids: Vec<_> = placed
            .spec
            .sources
            .iter()
            .map(|source| source.rid.as_deref())
            .collect();
        assert_eq!(rids, [Some("l"), Some("h")]);
        assert_eq!(placed.spec.identity, Identity::Any);
        assert_eq!(placed.spec.mode, Mode::Always);
        assert_eq!(placed.spec.transport, Transport::Udp);
        assert_eq!(placed.spec.trust, Trust::Request);
    }

    #[test]
    fn what_is_no_camera_is_told_what_it_lacks() {
        let say = |rest: &str| read(rest).unwrap_err().to_string();
        assert!(say("").contains("no `url`"));
        assert!(
            say(r#","url":"rtsp://h/","layers":[{"url":"rtsp://h/","rid":"l"}]"#)
                .contains("one of them")
        );
        assert!(say(r#","url":"http://ann:s3cret@h/""#).contains("rtsp://"));
        let layer = r#"{"url":"rtsp://h/","rid":"l"}"#;
        assert!(say(&format!(r#","layers":[{layer},{layer}]"#)).contains("of its own"));
        assert!(
            say(&format!(r#","layers":[{layer},{layer},{layer},{layer}]"#)).contains("4 layers")
        );
        assert!(
            say(r#","layers":[{"url":"rtsp://h/","rid":"a b"}]"#).contains("letters or digits")
        );
    }
}
