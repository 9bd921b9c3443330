//! A camera of our own that does whatever a test wants: RTSP, written by hand.

use std::future::Future;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// x264's: 1920x1080, high profile.
pub(crate) const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x28, 0xAC, 0xD9, 0x40, 0x78, 0x02, 0x27, 0xE5, 0xC0, 0x44, 0x00, 0x00, 0x03,
    0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xC0, 0x3C, 0x60, 0xC6, 0x58,
];
/// Another camera's: 704x480, main profile.
pub(crate) const OTHER_SPS: &[u8] = &[
    0x67, 0x4D, 0x40, 0x1E, 0x9A, 0x64, 0x05, 0x81, 0xEF, 0xFE, 0x50, 0x06, 0xC0, 0x00, 0x00, 0x03,
    0x00, 0x40, 0x00, 0x00, 0x0F, 0x23, 0xC5, 0x8B, 0x65, 0x80,
];
pub(crate) const PPS: &[u8] = &[0x68, 0xEB, 0xE3, 0xCB, 0x22, 0xC0];

/// A description with both sets.
pub(crate) const H264: &str = "v=0\r\ns=-\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z2QAKKzZQHgCJ+XARAAAAwAEAAADAMA8YMZY,aOvjyyLA\r\n\
    a=control:track1\r\n";

/// One connection.
pub(crate) struct Caller {
    stream: BufReader<TcpStream>,
    number: u16,
    pub(crate) timestamp: u32,
}

/// What was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) head: String,
    cseq: String,
}

impl Caller {
    /// The next request; `None` where the node hung up.
    pub(crate) async fn asked(&mut self) -> Option<Asked> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let mut words = head.lines().next()?.split(' ').map(str::to_owned);
        let cseq = head.lines().find_map(|line| line.strip_prefix("CSeq: "));
        Some(Asked {
            method: words.next()?,
            uri: words.next()?,
            cseq: cseq?.to_owned(),
            head,
        })
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // The node may have hung up; then the test sees that elsewhere.
        let _ = self.stream.get_mut().write_all(bytes).await;
    }

    /// Answers with these headers, each ending a line.
    pub(crate) async fn answer(&mut self, asked: &Asked, status: u16, headers: &str, body: &str) {
        let text = format!(
            "RTSP/1.0 {status} Word\r\nCSeq: {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            asked.cseq,
            body.len()
        );
        self.raw(text.as_bytes()).await;
    }

    /// Answers as it should until PLAY was answered. `false` where the node hung up before.
    pub(crate) async fn until_play(&mut self, description: &str) -> bool {
        while let Some(asked) = self.asked().await {
            match asked.method.as_str() {
                "DESCRIBE" => {
                    let kind = "Content-Type: application/sdp\r\n";
                    self.answer(&asked, 200, kind, description).await;
                }
                "SETUP" => {
                    let headers = "Session: 12345678;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=4-5\r\n";
                    self.answer(&asked, 200, headers, "").await;
                }
                "PLAY" => {
                    self.answer(&asked, 200, "Session: 12345678\r\n", "").await;
                    return true;
                }
                _ => self.answer(&asked, 200, "", "").await,
            }
        }
        false
    }

    /// An interleaved packet of RTP.
    pub(crate) async fn packet(&mut self, payload: &[u8], marker: bool) {
        self.number = self.number.wrapping_add(1);
        let mut bytes = vec![b'$', 4];
        bytes.extend((payload.len() as u16 + 12).to_be_bytes());
        bytes.extend([0x80, u8::from(marker) << 7 | 96]);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(7u32.to_be_bytes());
        bytes.extend(payload);
        self.raw(&bytes).await;
    }

    /// A picture, 40 ms after the one before.
    pub(crate) async fn picture(&mut self, unit: &[u8]) {
        self.timestamp = self.timestamp.wrapping_add(3_600);
        self.packet(unit, true).await;
    }

    /// Answers until the node hangs up.
    pub(crate) async fn until_gone(&mut self) {
        while let Some(asked) = self.asked().await {
            self.answer(&asked, 200, "", "").await;
        }
    }
}

/// Serves each connection by `behave`, which is told the how manieth it is, and says the port.
pub(crate) async fn serve<F>(behave: impl Fn(Caller, usize) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    serve_at("127.0.0.1", behave).await
}

/// The same at another address.
pub(crate) async fn serve_at<F>(
    host: &str,
    behave: impl Fn(Caller, usize) -> F + Send + 'static,
) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let caller = Caller {
                stream: BufReader::new(stream),
                number: 100,
                timestamp: 1_000,
            };
            tokio::spawn(behave(caller, n));
        }
    });
    port
}
