//! Every bound of the packet engine, with its reason and unit. Nothing on the packet path grows past these.

use std::time::Duration;

use crate::load::Load;

/// Sessions on one worker. A session is about a socket's worth of state; the pool is made at start.
pub const SESSIONS_MAX: usize = 10_000;

/// Published tracks of one session: camera, microphone, screen and its sound, and room to spare.
pub const TRACKS_PER_SESSION_MAX: usize = 16;

/// Outgoing streams of one session: both kinds of a hundred people.
pub const SENDERS_PER_SESSION_MAX: usize = 256;

/// Encodings of one published picture (RFC 8853): browsers send three at most.
pub const ENCODINGS_MAX: usize = 4;

/// Payload types of one track: Chromium offers at most 20 video formats beside their RTX.
pub const FORMATS_MAX: usize = 32;

/// SSRCs that one track may learn from its packets: media, its RTX, and changes over its life.
pub const SSRCS_PER_TRACK_MAX: usize = 8;

/// Sources of authentic control packets of one session: every stream that it sends or receives.
pub const RTCP_SOURCES_MAX: usize =
    SENDERS_PER_SESSION_MAX + TRACKS_PER_SESSION_MAX * ENCODINGS_MAX * SSRCS_PER_TRACK_MAX;

/// Sources of one session's removed tracks whose packet index is remembered: a client that takes up
/// a section again goes on with the same SSRC under the same key.
pub const SOURCES_RETIRED_MAX: usize = 32;

/// SSRCs of one session's removed senders whose packet index is remembered, because no index may be
/// used twice under one key (RFC 3711 section 9.1). Past it, a session gets no further senders.
pub const SENDERS_RETIRED_MAX: usize = 4_096;

/// Paths of one session that answered checks may come from: interfaces of a laptop, IPv4 and IPv6, TCP.
pub const PATHS_PER_SESSION_MAX: usize = 16;

/// Nominating checks of one session that are recognised when somebody else repeats them: those of
/// some minutes, at one every 2.5 s.
pub const NOMINATIONS_REMEMBERED_MAX: usize = 64;

/// A connected session's path is not another's for the asking as long as checks came by it within this
/// time: browsers send them every 2.5 s (Chromium), or every 4 to 6 s (RFC 7675 section 5.1).
pub const PATH_HELD: Duration = Duration::from_secs(7);

/// A client that sends this many times as much media as publishers are told they may is cut to that..
pub const INTAKE_FACTOR: u64 = 4;

/// ..or to this much, in bytes per second, where that is more: three encodings of a large screen, their
/// repairs, and what a browser probes with.
pub const INTAKE_BYTES_PER_SECOND_MIN: u64 = 5_000_000;

/// Largest datagram taken or made, in bytes: an Ethernet frame without its headers.
pub const DATAGRAM_BYTES_MAX: usize = 1500;

/// The longest time that a packet may be told to wait for others to share its send: at 50 audio
/// packets a second from each of nine others it makes sends of five.
pub const EGRESS_HOLD_MAX: Duration = Duration::from_millis(10);

/// The same where nothing else is configured: unnoticed by anybody who listens.
pub const EGRESS_HOLD_DEFAULT: Duration = Duration::from_millis(1);

/// Video waits no longer, whatever is configured: the packets of a frame arrive within a millisecond.
pub const VIDEO_HOLD_MAX: Duration = Duration::from_millis(1);

/// From this hold on a worker also rests between looks at its socket: what arrives meanwhile would be
/// held anyway, and to be woken by each packet costs as much as to forward it.
pub const REST_HOLD_MIN: Duration = Duration::from_millis(2);

/// A frame of which packets are still to come waits this long even in an idle worker: nobody can show a
/// part of it, and most arrive within 0.3 ms (Chromium's)..
pub const FRAME_GATHER: Duration = Duration::from_micros(300);

/// ..if it goes to this many subscribers: for fewer, waking up again costs as much as it saves.
pub const FRAME_GATHER_SUBSCRIBERS_MIN: usize = 4;

/// A worker that is less busy holds nothing else: it has time for a send of each packet's own.
pub const HOLD_LOAD_FROM: Load = Load(30);

/// From here on a packet waits as long as it may. Far below full, because what the hold saves lowers
/// the load, and with it the hold.
pub const HOLD_LOAD_FULL: Load = Load(60);

/// Over how long a worker's load is measured: some frames of video.
pub const LOAD_SPAN: Duration = Duration::from_millis(100);

/// Largest burst in one send, in bytes: what a UDP length field allows with GSO.
pub const BURST_BYTES_MAX: usize = 65_000;

/// Segments in one send: `UDP_MAX_SEGMENTS` of Linux before 6.9.
pub const BURST_SEGMENTS_MAX: usize = 64;

/// Packets kept of a video track for retransmission: about 1 s at 4 Mbit/s.
pub const VIDEO_LOG_PACKETS: usize = 512;

/// Packets kept of an audio track: 1.28 s of 20 ms frames.
pub const AUDIO_LOG_PACKETS: usize = 64;

/// Bytes of a video track's log: every packet of it may have full size.
pub const VIDEO_LOG_BYTES: usize = VIDEO_LOG_PACKETS * DATAGRAM_BYTES_MAX;

/// Packets kept of a video track whose receivers begin with its last key frame: a group of 4.7 s at 8 Mbit/s, or
/// 18 s at 2 Mbit/s.
pub const GROUP_LOG_PACKETS: usize = 4_096;

/// Bytes of such a track's log: 4.9 MB. What is never written takes no memory, and the log turns back to its
/// beginning with a key frame when it can ([`GROUP_TURN_BYTES`]).
pub const GROUP_LOG_BYTES: usize = GROUP_LOG_PACKETS * 1_200;

/// Bytes of a log that keeps groups which must lie before the group that has just ended, so that the next one is
/// written to the log's beginning: who still reads what has just ended has the time that these take. A track takes
/// about these and two groups: 1 MB at 2 Mbit/s with a key frame every two seconds.
pub const GROUP_TURN_BYTES: u64 = 256 << 10;

/// A group that is longer than this, in bytes, is not begun with: 4 s at 8 Mbit/s.
pub const GROUP_BYTES_MAX: u64 = 4_000_000;

/// Nor is one that began longer ago: cameras make a key frame every one to ten seconds.
pub const GROUP_AGE_MAX: Duration = Duration::from_secs(10);

/// Who begins with a group has this long for it before anything of it is late. Whom it has not reached by then waits
/// for the next key frame.
pub const GROUP_CATCH_UP: Duration = Duration::from_secs(3);

/// How fast a group leaves to a receiver whose network is not known yet, in bits per second: half a megabyte in a
/// fifth of a second, and no more than a home's router queues.
pub const GROUP_PACING_BPS: u64 = 20_000_000;

/// Bytes of an audio track's log: 512 for a packet is more than Opus with redundancy takes.
pub const AUDIO_LOG_BYTES: usize = AUDIO_LOG_PACKETS * 512;

/// Bytes of header extensions kept with a packet: a dependency descriptor with its structure is the
/// longest, and RFC 8285 gives one extension at most 255.
pub const EXTENSIONS_BYTES_MAX: usize = 288;

/// References that a VP9 descriptor names (RFC 9628 section 4.2: "up to 3 times").
pub const VP9_REFERENCES_MAX: usize = 3;

/// Spatial layers of a VP9 stream: SID has three bits.
pub const VP9_SPATIAL_LAYERS_MAX: usize = 8;

/// Templates of a dependency descriptor's structure: their numbers have six bits.
pub const DESCRIPTOR_TEMPLATES_MAX: usize = 64;

/// Decode targets of such a structure: their count has five bits.
pub const DESCRIPTOR_TARGETS_MAX: usize = 32;

/// Spatial layers of such a structure: AV1's `spatial_id` has two bits.
pub const DESCRIPTOR_SPATIAL_LAYERS_MAX: usize = 4;

/// Temporal layers of such a structure: AV1's `temporal_id` has three bits.
pub const DESCRIPTOR_TEMPORAL_LAYERS_MAX: usize = 8;

/// RTP padding that another packet in a burst may cost, in bytes: packets of a frame differ by 1 or
/// 2, voices by up to 100. A send saved is worth the CPU time of far more (see benches/README.md);
/// this is what it may cost the subscriber's network.
pub const BURST_PADDING_MAX: usize = 512;

/// Video that waited longer in the engine is not sent: what follows it is late as well, and only a
/// picture that is left out makes room. Three frames.
pub const VIDEO_LATE: Duration = Duration::from_millis(100);

/// The same for the packets of a key frame, without which nothing that follows is worth sending.
pub const KEYFRAME_LATE: Duration = Duration::from_millis(300);

/// The same for audio, the last to go: a voice half a second late is of no use in a conversation.
pub const AUDIO_LATE: Duration = Duration::from_millis(500);

/// Voices of one room that are forwarded at most, where not all are: more at once are noise.
pub const AUDIO_SPEAKERS_MAX: usize = 64;

/// Digital silence (RFC 6464 level 127) that lasts longer is left out: a microphone that is muted. By
/// then receivers have played what they had buffered, and hear it end in silence..
pub const SILENCE_AFTER: Duration = Duration::from_millis(400);

/// ..but for a packet this often, so that the stream is known to be alive. A little less than the 400 ms
/// of Opus's own discontinuous transmission, whose packets all pass.
pub const SILENCE_INTERVAL: Duration = Duration::from_millis(360);

/// Longest payload that may be left out as silence, in bytes: Opus takes three for it (RFC 6716), and 10 ms of
/// G.711, which takes as many for silence as for speech, are 80.
pub const SILENCE_BYTES_MAX: usize = 16;

/// Longest payload of audio that repeats earlier packets (RFC 2198), in bytes: with headers and tag it stays
/// below the 1,200 bytes that every path carries.
pub const REDUNDANT_PAYLOAD_BYTES_MAX: usize = 1_100;

/// Packets of one source that are asked for again at once: more missing than that and a key frame is cheaper.
pub const NACKS_PENDING_MAX: usize = 256;

/// Packets that wait to be sent again to one subscriber.
pub const RESENDS_PENDING_MAX: usize = 256;

/// Bytes per second that a subscriber may have sent again whatever it was sent before: 128 kbit/s.
pub const RESEND_BYTES_FLOOR_PER_SECOND: u64 = 16_000;

/// Most bytes of budget for sending again that a subscriber saves up: a lost burst.
pub const RESEND_BYTES_SAVED_MAX: u64 = 128_000;

/// Longest canonical name that our reports carry, in bytes: its length field has 8 bits (RFC 3550 section 6.5).
pub const CNAME_BYTES_MAX: usize = 255;

/// Datagrams that wait to be sent besides media: answers to checks, DTLS, RTCP of one turn.
pub const CONTROL_QUEUE_LEN: usize = 4_096;

/// Sessions that ended whose goodbye (DTLS `close_notify`) may still come from the handshake threads.
pub const CLOSING_MAX: usize = 1_024;

/// How long that is waited for.
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer without a valid check for this long is gone (RFC 7675 section 5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A report that makes a longer round trip is mistaken or a lie, and is not believed: what is missing would not be
/// asked for again for hours.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// A session that no check ever reached ends after this long.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Key frames are asked of one source at most this often.
pub const KEYFRAME_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Between sender and receiver reports of one session.
pub const RTCP_INTERVAL: Duration = Duration::from_secs(1);

/// A session's reports may leave this much before their time (RFC 3550 section 6.3.1 lets it vary by
/// far more) when something else has woken the worker: a wake-up costs more than what it is for..
pub const RTCP_EARLY: Duration = Duration::from_millis(50);

/// ..but of this many sessions at most at a time: media waits meanwhile.
pub const RTCP_EARLY_MAX: usize = 8;

/// Between two transport-wide feedbacks to a publisher: libwebrtc's receivers take 50 to 250 ms..
pub const TRANSPORT_FEEDBACK_INTERVAL: Duration = Duration::from_millis(80);

/// ..and this much less when something else has woken the worker.
pub const TRANSPORT_FEEDBACK_EARLY: Duration = Duration::from_millis(30);

/// Transport-wide numbers of one publisher that are remembered at most; a larger jump begins anew.
pub const TRANSPORT_FEEDBACK_PACKETS_MAX: usize = 1_024;

/// Transport-wide numbers that one feedback of a subscriber may cover: twice what is remembered of what was
/// sent, so that whatever is told of a longer gap costs nothing.
pub const TRANSPORT_FEEDBACK_READ_MAX: usize = 2 * SENT_REMEMBERED_MAX;

/// Packets to one subscriber that are remembered until feedback says what became of them (a power of two):
/// a second at 10 Mbit/s.
pub const SENT_REMEMBERED_MAX: usize = 1_024;

/// What a subscriber's network is taken to carry before anything is known, in bits per second: a small picture.
pub const ESTIMATE_START_BPS: u64 = 300_000;

/// An estimate never falls below this: a voice with its headers.
pub const ESTIMATE_BPS_MIN: u64 = 50_000;

/// Nor does it rise above this: more than any subscriber is sent, and what a lie can come to.
pub const ESTIMATE_BPS_MAX: u64 = 100_000_000;

/// Between two probes that are made only to see whether there is more room by now..
pub const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// ..which grows to this where there was none.
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(12);

/// How long a probe lasts, at least: libwebrtc's (`probe_controller.cc`).
pub const PROBE_DURATION: Duration = Duration::from_millis(15);

/// Packets of a probe, at least: fewer say more about timers than about the network.
pub const PROBE_PACKETS_MIN: usize = 5;

/// Media may leave at this multiple of the estimate: a frame need not take all of its interval.
pub const PACING_FACTOR: f64 = 2.5;

/// What may leave at once, whatever the pace: less than a queue that anybody notices..
pub const PACING_BURST: Duration = Duration::from_millis(40);

/// ..or this many full packets, where that is more.
pub const PACING_BURST_BYTES: usize = 10 * 1_200;

/// For so long video waits at most because of what did not wait itself, voices and what was asked for again; as long
/// as a burst takes, where that is more.
pub const PACING_DEBT_MAX: Duration = Duration::from_millis(500);

/// Video that waits for its pace is late after this long: a key frame before it takes its time..
pub const VIDEO_LATE_PACED: Duration = Duration::from_millis(400);

/// ..and a key frame itself after this.
pub const KEYFRAME_LATE_PACED: Duration = Duration::from_millis(800);

/// Indices of control packets that a process leaves out which takes over from another. The other has stopped by
/// then, so that none would do; of 2^31 a few cost nothing, and what might still be on its way is behind them.
pub const TAKE_OVER_RTCP_JUMP: u32 = 64;

/// Without feedback for this long the estimate falls by half, as often as that passes.
pub const FEEDBACK_TIMEOUT: Duration = Duration::from_secs(1);

/// Between two reports of a worker to control.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Datagrams that wait for the handshake threads, in all.
pub const DTLS_QUEUE_LEN: usize = 4_096;

/// DTLS associations of one worker, half-open and established: one per session.
pub const ASSOCIATIONS_MAX: usize = SESSIONS_MAX;

/// Bytes of handshake fragments that wait for their neighbours, per association: Chromium's hello
/// with a post-quantum key share is 1.5 kB, a certificate chain of RSA-4096 some 2 kB more.
pub const HANDSHAKE_FRAGMENT_BYTES_MAX: usize = 8_192;

/// A DTLS handshake that is not done after this long has failed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// SCTP streams of one session, each way. Clients ask for 65,535; a channel takes one..
pub const DATA_STREAMS_MAX: u16 = 1_024;

/// ..and so many may be in use at once.
pub const DATA_CHANNELS_MAX: usize = 32;

/// Longest label or protocol of a channel, in bytes.
pub const DATA_LABEL_BYTES_MAX: usize = 256;

/// Longest message in bytes, each way: what a client may send that is told of no limit (RFC 8841
/// section 6.1), and what fits between other messages without a wait.
pub const DATA_MESSAGE_BYTES_MAX: usize = 65_536;

/// Bytes of messages that wait for one client: half a second at 4 Mbit/s. More is dropped where the
/// channel is unreliable, and closes the channel where it is reliable.
pub const DATA_SEND_BUFFER_BYTES: usize = 256 << 10;

/// Bytes of messages that one client may have under way to us: the window that we announce.
pub const DATA_RECEIVE_BUFFER_BYTES: usize = 256 << 10;

/// What a chunk costs in memory beyond its bytes while it waits for others, in bytes, about.
pub const DATA_CHUNK_OVERHEAD_BYTES: usize = 256;

/// Memory of chunks that wait for others, with that overhead: the window in full chunks, or some
/// thousand tiny ones. The one chunk that everything waits for may go beyond, up to twice.
pub const DATA_RECEIVED_BYTES_MAX: usize = 2 * DATA_RECEIVE_BUFFER_BYTES;

/// How far a chunk's number may be ahead of what is complete: more than fit the window.
pub const DATA_CHUNKS_AHEAD_MAX: u32 = 2_048;

/// How far a client may move on past chunks that it gave up (RFC 3758): it may have given up more
/// than we took. Each costs a step.
pub const DATA_FORWARD_MAX: u32 = 16_384;

/// A client's requests to reset streams that wait for chunks (RFC 6525): clients send one at a time.
pub const DATA_RESETS_DEFERRED_MAX: usize = 4;

/// Our requests to reset streams that a client has not answered, one for each; one more ends its
/// association.
pub const DATA_RESETS_UNANSWERED_MAX: usize = DATA_STREAMS_MAX as usize;

/// Messages per second of one session: two pointers at 60 Hz. Two seconds of it may be saved up.
pub const DATA_MESSAGES_PER_SECOND_MAX: u32 = 128;

/// Bytes of messages per second of one session: a quarter of what a subscriber of video gets.
pub const DATA_BYTES_PER_SECOND_MAX: u32 = 256 << 10;

/// Between two tellings of what the channels of all sessions dropped.
pub const DATA_DROPS_INTERVAL: Duration = Duration::from_secs(1);

/// How long each step of standing still may take that a worker is asked for when another process takes over: some
/// thousand sessions take some tens of milliseconds.
pub const FREEZE_TIMEOUT: Duration = Duration::from_secs(1);

/// Turns that a worker takes at most to send what waits before it stands still.
pub const FREEZE_TURNS: usize = 1_024;

/// Socket buffers asked of the kernel, each way, in bytes: about 3,600 datagrams of 1,200 bytes.
pub const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Requests from control that wait for one worker: a publisher joining a room of 4,000 is two for each.
pub const COMMAND_QUEUE_LEN: usize = 8_192;

/// Requests a worker carries out in one turn, so that a burst of joins does not hold up packets.
pub const COMMANDS_PER_TURN: usize = 64;

/// Events that wait for control, from all workers.
pub const EVENT_QUEUE_LEN: usize = 16_384;

/// Events of one worker that are kept while control's queue is full: what a full worker of
/// [`SESSIONS_MAX`] says when all its sessions end, and room for those that had just begun.
pub const EVENT_BACKLOG_LEN: usize = 4 * SESSIONS_MAX;

/// Runs of datagrams (GRO) that a worker takes in one turn before it sends.
pub const RUNS_PER_TURN: usize = 64;

/// Bytes of a packet on its way from one worker to another: its listed extensions and its payload.
pub const RELAY_BYTES_MAX: usize = EXTENSIONS_BYTES_MAX + DATAGRAM_BYTES_MAX;

/// Packets on their way from one worker to another. What finds no slot stays in its track's log, so
/// this is no more than what a busy pair exchanges in a turn; slots are made when they are first needed.
pub const RELAY_SLOTS: usize = 256;

/// Packets that a worker takes from each other worker in one turn before it sends.
pub const RELAYED_PER_TURN: usize = RELAY_SLOTS / 2;

/// Bytes of a packet on its way from a feed to a worker, header included.
pub const FEED_BYTES_MAX: usize = DATAGRAM_BYTES_MAX;

/// Packets on their way from one feeder to one worker: key frames of ten cameras at once, or 15 ms of 600 cameras of
/// 2 Mbit/s. Slots are made when they are first needed, and 3 MB are all of them.
pub const FEED_SLOTS: usize = 2_048;

/// Packets that a worker takes from each feeder in one turn before it sends.
pub const FED_PER_TURN: usize = 512;

/// Bursts that a worker sends in one turn before it looks at its inputs again.
pub const BURSTS_PER_TURN: usize = 512;

/// Send slots of one worker, each [`BURST_BYTES_MAX`] long: one submission's worth of bursts. Few, so that
/// what is written into them is still in the cache when the kernel copies it.
pub const SEND_SLOTS: usize = 8;

/// Receive buffers of one worker (a power of two, as the kernel's ring wants it): two turns' worth.
pub const RECEIVE_BUFFERS: usize = 128;

/// Size of a receive buffer in bytes: the longest GRO run (64 KiB), and 4 KiB for what io_uring
/// writes in front of it, in whole pages.
pub const RECEIVE_BUFFER_BYTES: usize = (64 << 10) + (4 << 10);

/// Longest sleep of a worker; one that has nothing to do looks around this often.
pub const IDLE_MAX: Duration = Duration::from_secs(1);

/// Failures of one worker within [`WORKER_FAILURES_SPAN`] after which nobody new is sent to it: what made it
/// fail so often is still there.
pub const WORKER_FAILURES_MAX: usize = 5;

/// How long a failure of a worker counts.
pub const WORKER_FAILURES_SPAN: Duration = Duration::from_secs(60);

/// A worker that failed once starts again at once; after the next failures it waits this long, and twice as
/// long each time..
pub const WORKER_PAUSE: Duration = Duration::from_millis(50);

/// ..up to this, so that the end of the program does not have to wait for it.
pub const WORKER_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long the end of the workers is waited for.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// ICE-TCP connections of one worker: an eighth of its sessions may be behind UDP-blocking networks.
pub const TCP_CONNECTIONS_MAX: usize = 1_250;

/// ICE-TCP connections that no valid check came over yet; one more closes the oldest of them.
pub const TCP_UNVALIDATED_MAX: usize = 128;

/// An ICE-TCP connection without a valid check is closed after this long.
pub const TCP_UNVALIDATED_TIMEOUT: Duration = Duration::from_secs(10);

/// A silent ICE-TCP connection is closed after this long: consent (30 s) expires before.
pub const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Bytes that wait for a slow ICE-TCP reader: half a second at 8 Mbit/s. More is dropped.
pub const TCP_WRITE_BUFFER_BYTES: usize = 512 << 10;

/// Bytes taken from an ICE-TCP connection in one read.
pub const TCP_READ_BYTES: usize = 16 << 10;

/// Reads from all ICE-TCP connections of a worker that wait for its next turn; when it is full the
/// connections are not read, and TCP slows their senders down.
pub const TCP_QUEUE_LEN: usize = 256;

const _: () = assert!(
    WORKER_PAUSE_MAX.as_millis() < STOP_TIMEOUT.as_millis(),
    "a worker that waits to start again must end in time"
);
const _: () = assert!(
    RECEIVE_BUFFERS.is_power_of_two(),
    "the kernel masks the index of a buffer ring"
);
const _: () = assert!(
    SENT_REMEMBERED_MAX.is_power_of_two() && SENT_REMEMBERED_MAX < 1 << 15,
    "what was sent is found by a mask, and its 16-bit numbers are not ambiguous"
);
const _: () = assert!(
    RUNS_PER_TURN <= RECEIVE_BUFFERS,
    "a turn must not use up the receive buffers"
);
const _: () = assert!(
    TCP_UNVALIDATED_MAX < TCP_CONNECTIONS_MAX,
    "strangers must leave room for clients"
);
const _: () = assert!(
    HOLD_LOAD_FROM.0 < HOLD_LOAD_FULL.0 && HOLD_LOAD_FULL.0 <= Load::FULL.0,
    "the hold grows over a range of loads"
);
const _: () = assert!(
    EGRESS_HOLD_DEFAULT.as_nanos() <= EGRESS_HOLD_MAX.as_nanos(),
    "the default must be allowed"
);
const _: () = assert!(
    DATA_MESSAGE_BYTES_MAX < DATA_RECEIVE_BUFFER_BYTES
        && DATA_MESSAGE_BYTES_MAX < DATA_SEND_BUFFER_BYTES
        && DATA_MESSAGE_BYTES_MAX < 2 * DATA_BYTES_PER_SECOND_MAX as usize,
    "a message must fit the buffers and the rate"
);
const _: () = assert!(
    DATA_CHANNELS_MAX < DATA_STREAMS_MAX as usize,
    "each channel has a stream"
);
const _: () = assert!(
    DATAGRAM_BYTES_MAX <= BURST_BYTES_MAX,
    "one datagram must fit a burst"
);
const _: () = assert!(
    VIDEO_LOG_PACKETS.is_power_of_two()
        && AUDIO_LOG_PACKETS.is_power_of_two()
        && GROUP_LOG_PACKETS.is_power_of_two(),
    "logs are indexed by masks"
);
const _: () = assert!(
    GROUP_BYTES_MAX + GROUP_TURN_BYTES < GROUP_LOG_BYTES as u64,
    "a group that is begun with must fit the log that keeps it"
);
const _: () = assert!(
    FED_PER_TURN <= FEED_SLOTS,
    "a turn takes no more than there can be"
);
