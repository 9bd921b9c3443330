//! Google's Firestore emulator, and documents in it as pages write and read them.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use firestore::gcloud_sdk::google::firestore::v1 as proto;
use firestore::gcloud_sdk::prost_types::Timestamp;
use firestore::gcloud_sdk::tonic::transport::{Channel, Endpoint};
use firestore::gcloud_sdk::tonic::{Code, Request, Status};
use proto::firestore_client::FirestoreClient;
use proto::structured_query as query;
use proto::value::ValueType;

use super::{Server, free_port};

/// How long the emulator may take to come up: java on a busy machine.
const START: Duration = Duration::from_secs(60);

/// How long a document may take to become what a test waits for, unless it says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// How often a document is looked at by those who wait for it.
const LOOK: Duration = Duration::from_millis(20);

/// Writes in one commit, at most.
const WRITES_MAX: usize = 500;

/// The largest document that a test reads is 1 MiB; a query's answer may be several.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A running emulator, ended when dropped or when the test's process ends.
pub struct Emulator {
    process: Option<rustix::process::Pid>,
    port: u16,
}

impl Emulator {
    /// Starts an emulator of one's own, to be stopped and started.
    pub fn start() -> Emulator {
        let mut emulator = Emulator {
            process: None,
            port: free_port(),
        };
        emulator.start_again();
        emulator
    }

    /// `host:port` of the emulator that the tests of this process share: the one that
    /// `FIRESTORE_EMULATOR_HOST` names, or one that is started now.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<(String, Option<Emulator>)> = OnceLock::new();
        let start = || match std::env::var("FIRESTORE_EMULATOR_HOST") {
            Ok(host) => (host, None),
            Err(_) => {
                let emulator = Emulator::start();
                (emulator.host(), Some(emulator))
            }
        };
        &SHARED.get_or_init(start).0
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it, and with it everything that it holds. Clients find nobody.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
            wait_for("the emulator to be gone", START, || !answers(self.port));
        }
    }

    /// Starts it again on the same port, empty.
    pub fn start_again(&mut self) {
        self.process = Some(run_script(self.port));
        wait_for("the emulator to serve", START, || answers(self.port));
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Starts the emulator's process. The system kills it when the thread that started it ends, so that
/// is one which lives as long as this process.
fn run_script(port: u16) -> rustix::process::Pid {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let script = top.join("scripts/firestore-emulator");
    let (started, process) = mpsc::channel();
    std::thread::spawn(move || {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(script)
            .arg(port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv (util-linux) starts the emulator");
        started.send(child.id()).unwrap();
        child.wait().ok();
    });
    let id = process.recv().unwrap();
    rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// Whether somebody says `Ok` there.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut answer = String::new();
    let asked = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"));
    asked.is_ok()
        && (stream.read_to_string(&mut answer).is_ok() || !answer.is_empty())
        && answer.contains("Ok")
}

fn wait_for(what: &str, time: Duration, mut so: impl FnMut() -> bool) {
    let end = now() + time;
    while !so() {
        assert!(
            now() < end,
            "waited in vain for {what}; `scripts/firestore-emulator PORT` says what is missing"
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// A document's value, as pages write it.
pub fn text(text: &str) -> proto::Value {
    value(ValueType::StringValue(text.to_owned()))
}

/// A document's value, as pages write it.
pub fn boolean(yes: bool) -> proto::Value {
    value(ValueType::BooleanValue(yes))
}

/// A document's value, as pages write it.
pub fn integer(number: i64) -> proto::Value {
    value(ValueType::IntegerValue(number))
}

/// A document's value, as pages write it.
pub fn map(fields: &[(&str, proto::Value)]) -> proto::Value {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    value(ValueType::MapValue(proto::MapValue {
        fields: fields.collect(),
    }))
}

fn value(value: ValueType) -> proto::Value {
    proto::Value {
        value_type: Some(value),
    }
}

/// A document as somebody found it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its fields.
    pub fields: HashMap<String, proto::Value>,
    /// When it was made, by the database's clock: since the Unix epoch.
    pub created: Duration,
    /// When it was last written, by the same.
    pub updated: Duration,
}

impl From<proto::Document> for Found {
    fn from(document: proto::Document) -> Found {
        let time = |time: Option<Timestamp>| {
            let time = time.unwrap_or_default();
            Duration::new(time.seconds as u64, time.nanos as u32)
        };
        Found {
            fields: document.fields,
            created: time(document.create_time),
            updated: time(document.update_time),
        }
    }
}

impl Found {
    /// A field's text; empty where there is none.
    pub fn text(&self, field: &str) -> &str {
        match self.fields.get(field).map(|value| &value.value_type) {
            Some(Some(ValueType::StringValue(text))) => text,
            _ => "",
        }
    }

    /// Whether there is a field of this name.
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }
}

/// One project in an emulator: a world of its own.
#[derive(Clone)]
pub struct Project {
    host: String,
    client: FirestoreClient<Channel>,
    /// Its id.
    pub id: String,
}

impl Project {
    /// A new one, in the emulator at `host`.
    pub fn new(host: &str) -> Project {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let endpoint = Endpoint::from_shared(format!("http://{host}")).unwrap();
        let client = FirestoreClient::new(endpoint.tcp_nodelay(true).connect_lazy());
        let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        Project {
            host: host.to_owned(),
            client: client.max_decoding_message_size(MESSAGE_BYTES_MAX),
            id: format!("demo-{}-{since}-{count}", std::process::id()),
        }
    }

    /// A node that serves it, of this id and with these flags besides.
    pub fn node(&self, id: &str, flags: &[&str]) -> Server {
        let mut all = vec!["--firestore-project", &self.id, "--node-id", id];
        all.extend(flags);
        let variables = [("FIRESTORE_EMULATOR_HOST", self.host.as_str())];
        Server::start_with(Ipv4Addr::LOCALHOST, &all, &variables)
    }

    /// Writes these fields of a document in `broadcast_requests`; others stay as they are.
    pub async fn write(&self, id: &str, fields: &[(&str, proto::Value)]) {
        self.write_in("broadcast_requests", id, fields).await;
    }

    /// The same in another collection.
    pub async fn write_in(&self, collection: &str, id: &str, fields: &[(&str, proto::Value)]) {
        let mask = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
        let fields = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let document = proto::Document {
            name: self.name(collection, id),
            fields: fields.collect(),
            ..Default::default()
        };
        let request = proto::UpdateDocumentRequest {
            document: Some(document),
            update_mask: Some(proto::DocumentMask { field_paths: mask }),
            ..Default::default()
        };
        until_taken(async || {
            let mut client = self.client.clone();
            client.update_document(owner(request.clone())).await
        })
        .await;
    }

    /// Writes these fields of many documents, hundreds at once; others of theirs stay as they are.
    pub async fn write_all(&self, documents: &[(String, Vec<(&str, proto::Value)>)]) {
        for documents in documents.chunks(WRITES_MAX) {
            let write = |(id, fields): &(String, Vec<(&str, proto::Value)>)| proto::Write {
                update_mask: Some(proto::DocumentMask {
                    field_paths: fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
                }),
                operation: Some(proto::write::Operation::Update(proto::Document {
                    name: self.name("broadcast_requests", id),
                    fields: fields
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), value.clone()))
                        .collect(),
                    ..Default::default()
                })),
                ..Default::default()
            };
            let request = proto::CommitRequest {
                database: format!("projects/{}/databases/(default)", self.id),
                writes: documents.iter().map(write).collect(),
                ..Default::default()
            };
            until_taken(async || {
                let mut client = self.client.clone();
                client.commit(owner(request.clone())).await
            })
            .await;
        }
    }

    /// A document of `broadcast_requests`.
    pub async fn read(&self, id: &str) -> Option<Found> {
        self.read_in("broadcast_requests", id).await
    }

    /// The same in another collection.
    pub async fn read_in(&self, collection: &str, id: &str) -> Option<Found> {
        let request = proto::GetDocumentRequest {
            name: self.name(collection, id),
            ..Default::default()
        };
        let found = self
            .client
            .clone()
            .get_document(owner(request))
            .await
            .ok()?;
        Some(Found::from(found.into_inner()))
    }

    /// All of `broadcast_requests`, by id, without what `fields` does not name.
    pub async fn all(&self, fields: &[&str]) -> BTreeMap<String, Found> {
        let field = |field_path: &&str| query::FieldReference {
            field_path: (*field_path).to_owned(),
        };
        let query = proto::StructuredQuery {
            select: Some(query::Projection {
                fields: fields.iter().map(field).collect(),
            }),
            from: vec![query::CollectionSelector {
                collection_id: "broadcast_requests".to_owned(),
                all_descendants: false,
            }],
            ..Default::default()
        };
        let request = proto::RunQueryRequest {
            parent: format!("projects/{}/databases/(default)/documents", self.id),
            query_type: Some(proto::run_query_request::QueryType::StructuredQuery(query)),
            ..Default::default()
        };
        let found = self.client.clone().run_query(owner(request)).await;
        let mut found = found.expect("the emulator answers a query").into_inner();
        let mut all = BTreeMap::new();
        while let Some(part) = found.message().await.unwrap() {
            if let Some(document) = part.document {
                let id = document.name.rsplit('/').next().unwrap().to_owned();
                all.insert(id, Found::from(document));
            }
        }
        all
    }

    /// Waits until a document of `broadcast_requests` is `so`, and gives it.
    pub async fn until(&self, what: &str, id: &str, so: impl Fn(&Found) -> bool) -> Found {
        self.until_in("broadcast_requests", what, id, so).await
    }

    /// The same in another collection.
    pub async fn until_in(
        &self,
        collection: &str,
        what: &str,
        id: &str,
        so: impl Fn(&Found) -> bool,
    ) -> Found {
        let end = now() + PATIENCE;
        loop {
            let found = self.read_in(collection, id).await;
            if let Some(found) = found.as_ref().filter(|found| so(found)) {
                return found.clone();
            }
            assert!(now() < end, "waited in vain for {what}: {id} is {found:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn name(&self, collection: &str, id: &str) -> String {
        format!(
            "projects/{}/databases/(default)/documents/{collection}/{id}",
            self.id
        )
    }
}

/// Waits until something is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let end = now() + PATIENCE;
    while !so() {
        assert!(now() < end, "waited in vain for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Sends a write until the database takes it. One that meets others' writes may be `ABORTED`, which
/// pages' SDKs answer by sending it again.
async fn until_taken<T>(mut write: impl AsyncFnMut() -> Result<T, Status>) {
    let end = now() + PATIENCE;
    while let Err(status) = write().await {
        let again = status.code() == Code::Aborted && now() < end;
        assert!(again, "the emulator does not take a page's write: {status}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A request that the emulator's rules let through.
fn owner<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", "Bearer owner".parse().unwrap());
    request
}

/// The time, for deadlines.
#[expect(clippy::disallowed_methods, reason = "tests wait for other processes")]
pub fn now() -> Instant {
    Instant::now()
}
