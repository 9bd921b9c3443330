//! What the packet path counts instead of logging.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals of one worker since it started. Every drop has a reason here.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter's name and value, in declaration order.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams received.
    datagrams_received,
    /// Datagrams handed to the driver.
    datagrams_sent,
    /// Bursts handed to the driver (GSO sends and single datagrams).
    bursts_sent,
    /// Sends of RTP: a burst, or a packet by itself.
    media_sends,
    /// RTP packets that shared a send with others (GSO).
    rtp_sent_in_bursts,
    /// Microseconds from arrival to departure of the oldest packet in each send of RTP, in sum.
    media_sends_held_us,
    /// RTP packets accepted from publishers.
    rtp_received,
    /// Packets of audio that left with repetitions of earlier ones (RFC 2198).
    rtp_with_redundancy,
    /// RTP packets sent to subscribers, retransmissions included.
    rtp_forwarded,
    /// Retransmissions sent to subscribers.
    rtp_retransmitted,
    /// RTCP packets accepted.
    rtcp_received,
    /// Connectivity checks answered.
    stun_answered,
    /// Payload bytes received from publishers.
    bytes_received,
    /// Bytes of datagrams handed to the driver.
    bytes_sent,
    /// Key frames asked of publishers.
    keyframe_requests,
    /// Key frames that somebody needed of a feed, which cannot be asked; counted once until the next one came.
    keyframes_not_asked,
    /// Packets taken from feeds, RTP and RTCP.
    feed_received,
    /// NACKed packet numbers sent to publishers.
    nacks_sent,
    /// Transport-wide feedbacks sent to publishers: when their packets arrived.
    transport_feedback_sent,
    /// Transport-wide feedbacks received from subscribers.
    transport_feedback_received,
    /// Packets of padding sent to subscribers, to see how much their networks carry.
    padding_sent,
    /// How often a subscriber's video had to wait for its pace.
    paced,
    /// NACKed packet numbers received from subscribers.
    nacks_received,
    /// Changes of subscribers from one encoding of a stream to another, or from none to one.
    layer_switches,
    /// Packets of layers that a subscriber was not to be sent.
    layer_not_sent,
    /// Packets of voices that nobody was sent, because others of their group were louder; counted once each.
    voice_not_heard,
    /// Changes of who is forwarded, where only the loudest of a group are.
    speaker_changes,
    /// Packets of digital silence that nobody was sent; counted once each.
    silence_not_sent,
    /// Packets handed to other workers, counted once for each of them.
    relay_sent,
    /// Packets taken from other workers.
    relay_received,
    /// Data channels that clients opened.
    data_channels_opened,
    /// Messages received on data channels.
    data_messages_received,
    /// Messages handed to data channels.
    data_messages_sent,
    /// Data channels that we closed because a bound was reached or a rule broken.
    data_channels_refused,
    /// Dropped: larger than any datagram that a network path carries whole.
    drop_too_large,
    /// Dropped: the first byte names no protocol of RFC 7983.
    drop_unknown_protocol,
    /// Dropped: came from an address that no session validated.
    drop_unknown_address,
    /// Dropped: malformed STUN.
    drop_stun_malformed,
    /// Dropped: STUN for no session here.
    drop_stun_unknown_user,
    /// Dropped: STUN whose integrity does not hold.
    drop_stun_integrity,
    /// Dropped: a nomination that was recorded and repeated from another address.
    drop_stun_replayed,
    /// Dropped: a check from the address where another session is connected.
    drop_stun_path_held,
    /// Dropped: media of a client that sends far more than it was told it may.
    drop_over_rate,
    /// Dropped: from a feed, for a session that is not there or is none.
    drop_feed_unknown,
    /// Dropped on the way from a feed: the worker's queue was full.
    drop_feed_queue_full,
    /// Dropped: malformed RTP.
    drop_rtp_malformed,
    /// Dropped: malformed RTCP.
    drop_rtcp_malformed,
    /// Dropped: malformed transport-wide feedback, or from a subscriber whose packets have no such numbers.
    drop_feedback_malformed,
    /// Ignored in feedback: packets that were never sent, or so long ago that nobody remembers.
    feedback_unknown,
    /// Ignored in feedback: packets that were said to have arrived before.
    feedback_repeated,
    /// Dropped: media before the handshake was done.
    drop_no_keys,
    /// Dropped: SRTP or SRTCP authentication failed.
    drop_unauthenticated,
    /// Dropped: replayed or older than the replay window.
    drop_replayed,
    /// Dropped: an SSRC that belongs to no track, or one too many.
    drop_unknown_ssrc,
    /// Dropped: a payload type that was not negotiated.
    drop_unknown_format,
    /// Dropped on the way out: the receiver takes no such format.
    drop_format_not_accepted,
    /// Dropped on the way out: the subscriber fell behind the track's log.
    drop_subscriber_behind,
    /// Dropped on the way out: video that could not be sent in time, and what depends on it.
    drop_late_video,
    /// Dropped on the way out: audio that could not be sent in time.
    drop_late_audio,
    /// Dropped on the way to another worker: it fell behind the track's log.
    drop_relay_behind,
    /// Dropped on the way from another worker: the track is not taken here, not yet or no longer.
    drop_relay_unknown,
    /// Not resent: no longer in the cache, or never sent.
    drop_nack_too_late,
    /// Not resent: the retransmission budget was used up.
    drop_nack_budget,
    /// Dropped: packets and chunks of data channels that are not SCTP, or not for their association.
    drop_data_malformed,
    /// Dropped: chunks of data channels past a bound.
    drop_data_over_limit,
    /// Dropped: messages that came faster than a session may send them on data channels.
    drop_data_over_rate,
    /// Dropped: messages on data channels to a client that takes no more for now.
    drop_data_buffer_full,
    /// Dropped: the handshake threads' queue was full.
    drop_dtls_queue_full,
    /// Dropped: the queue of datagrams besides media was full.
    drop_control_queue_full,
    /// Ignored: a command for something that is gone.
    command_stale,
    /// Ignored: a command that would pass a limit, or whose keys or formats cannot be used.
    command_refused,
    /// Dropped by the driver: the socket did not take it.
    drop_socket_full,
    /// Dropped by the driver: the kernel refused it (no route, not permitted, too large).
    drop_socket_refused,
    /// Dropped by the driver: came from port 0, which cannot be answered.
    drop_port_zero,
    /// Bursts that the kernel refused as one GSO send, sent again datagram by datagram.
    bursts_split,
    /// Whether the network device refused GSO, so that the worker sends datagram by datagram: 0 or 1.
    send_offload_lost,
    /// Dropped by the kernel: nobody took it from the socket before its buffer was full.
    drop_receive_buffer_full,
    /// How often the receive buffers ran out (io_uring); what arrives then waits in the socket.
    receive_buffers_exhausted,
    /// Events that control's queue had no room for.
    drop_event_queue_full,
}
