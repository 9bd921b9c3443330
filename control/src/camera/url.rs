//! The address of a camera, whose credentials are seen nowhere.

use std::fmt;

/// `rtsp://` or `rtsps://`, perhaps with a name and a password. Neither `Debug` nor `Display` shows these, nor the
/// query, nor a path with an equals sign in it, where some cameras want them.
#[derive(Clone, PartialEq, Eq)]
pub struct CameraUrl(url::Url);

/// Why something is no address of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCameraUrl {
    /// It is no URL.
    #[error("that is no URL; a camera's looks like rtsp://name:password@192.0.2.7:554/stream1")]
    Malformed,
    /// Another scheme.
    #[error("a camera's URL begins with rtsp:// or rtsps://")]
    Scheme,
    /// No host.
    #[error("the URL names no host; a camera's looks like rtsp://192.0.2.7:554/stream1")]
    NoHost,
    /// Longer than any camera's.
    #[error("the URL has more than {} characters", CameraUrl::LEN_MAX)]
    TooLong,
}

impl CameraUrl {
    /// Characters at most.
    pub const LEN_MAX: usize = 2_048;

    /// Reads an address.
    ///
    /// # Errors
    /// Says what it should look like. What was read is not in the error: there may be a password in it.
    pub fn parse(text: &str) -> Result<CameraUrl, BadCameraUrl> {
        if text.len() > CameraUrl::LEN_MAX {
            return Err(BadCameraUrl::TooLong);
        }
        let url = url::Url::parse(text).map_err(|_| BadCameraUrl::Malformed)?;
        if !matches!(url.scheme(), "rtsp" | "rtsps") {
            return Err(BadCameraUrl::Scheme);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(BadCameraUrl::NoHost);
        }
        Ok(CameraUrl(url))
    }

    /// The address with everything in it: for connecting only.
    #[must_use]
    pub fn secret(&self) -> &url::Url {
        &self.0
    }
}

impl fmt::Display for CameraUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            self.0.scheme(),
            self.0.host_str().unwrap_or("")
        )?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        match self.0.path() {
            path if path.contains('=') || path.contains("%3D") || path.contains("%3d") => {
                f.write_str("/..")
            }
            path => f.write_str(path),
        }
    }
}

impl fmt::Debug for CameraUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_no_credentials() {
        let url = CameraUrl::parse("rtsp://admin:s3cret@192.0.2.7:8554/live?user=admin&pw=s3cret")
            .unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "rtsp://192.0.2.7:8554/live rtsp://192.0.2.7:8554/live"
        );
        assert_eq!(url.secret().password(), Some("s3cret"));
        let url =
            CameraUrl::parse("rtsp://192.0.2.7/user=admin_password=s3cret_channel=1.sdp").unwrap();
        assert_eq!(url.to_string(), "rtsp://192.0.2.7/..");
    }

    #[test]
    fn what_is_no_camera_is_told_how_one_looks() {
        let say = |text: &str| CameraUrl::parse(text).unwrap_err().to_string();
        assert!(say("camera").contains("rtsp://"));
        assert!(say("http://192.0.2.7/").contains("rtsps://"));
        assert!(say("rtsp:///live").contains("host"));
        assert!(say(&format!("rtsp://h/{}", "x".repeat(2_048))).contains("2048"));
    }
}
