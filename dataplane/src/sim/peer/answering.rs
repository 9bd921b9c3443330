//! Transport-wide feedback: a peer tells when packets arrived, as browsers do
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};
use rtp::header::Header;

use super::Peer;

/// Between two feedbacks.
const INTERVAL: Duration = Duration::from_millis(60);

/// Ticks of 250 us in the unit of the reference time.
const TICKS_PER_REFERENCE: i64 = 256;

/// Symbols of two bits in a status vector chunk.
const SYMBOLS: usize = 7;

/// Packets that one feedback covers at most, so that it fits a datagram.
const PACKETS_MAX: u64 = 200;

/// Arrivals that were not told of yet.
#[derive(Debug)]
pub(super) struct Answers {
    /// Id of the header extension with the number.
    id: u8,
    /// In ticks since the simulation's epoch, by extended number.
    arrivals: BTreeMap<u64, i64>,
    /// The first number that was not told of.
    next: Option<u64>,
    due: Option<Instant>,
    sent: u8,
    media_ssrc: u32,
}

impl Answers {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn note(&mut self, now: Instant, tick: i64, number: u16) {
        let newest = self.arrivals.last_key_value().map(|(number, _)| *number);
        let next = self
            .next
            .or(newest)
            .unwrap_or(u64::from(number) + (1 << 16));
        let ahead = number.wrapping_sub(next as u16).cast_signed();
        let extended = next.wrapping_add_signed(i64::from(ahead));
        self.next.get_or_insert(extended);
        self.arrivals.insert(extended, tick);
        self.due.get_or_insert(now + INTERVAL);
    }

    /// The next feedback, of what came since the last.
    fn take(&mut self, sender_ssrc: u32) -> Option<TransportLayerCc> {
        let base = self.next?;
        // What comes after it was told to be lost is told of no more.
        self.arrivals = self.arrivals.split_off(&base);
        let (first, last) = (
            self.arrivals.first_key_value()?,
            self.arrivals.last_key_value()?,
        );
        let end = (*last.0 + 1).min(base + PACKETS_MAX);
        let reference = first.1.div_euclid(TICKS_PER_REFERENCE);
        let mut tick = reference * TICKS_PER_REFERENCE;
        let (mut symbols, mut recv_deltas) = (Vec::new(), Vec::new());
        for number in base..end {
            let arrival = self.arrivals.remove(&number);
            let delta = arrival.map(|arrival| arrival - tick);
            let symbol = match delta {
                None => SymbolTypeTcc::PacketNotReceived,
                Some(0..=255) => SymbolTypeTcc::PacketReceivedSmallDelta,
                Some(_) => SymbolTypeTcc::PacketReceivedLargeDelta,
            };
            symbols.push(symbol);
            if let Some(delta) = delta {
                tick += delta;
                recv_deltas.push(RecvDelta {
                    type_tcc_packet: symbol,
                    delta: delta * 250,
                });
            }
        }
        self.next = Some(end);
        self.sent = self.sent.wrapping_add(1);
        let chunks = symbols.chunks(SYMBOLS).map(|symbols| {
            let mut symbol_list = symbols.to_vec();
            symbol_list.resize(SYMBOLS, SymbolTypeTcc::PacketNotReceived);
            PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: SymbolSizeTypeTcc::TwoBit,
                symbol_list,
            })
        });
        Some(TransportLayerCc {
            sender_ssrc,
            media_ssrc: self.media_ssrc,
            base_sequence_number: base as u16,
            packet_status_count: (end - base) as u16,
            reference_time: reference as u32 & 0xFF_FFFF,
            fb_pkt_count: self.sent,
            packet_chunks: chunks.collect(),
            recv_deltas,
        })
    }
}

impl Peer {
    /// Tells from now on when packets arrive that have their number in the header extension with this id.
    pub fn answer_feedback(&mut self, id: u8) {
        self.answers.get_or_insert(Answers {
            id,
            arrivals: BTreeMap::new(),
            next: None,
            due: None,
            sent: 0,
            media_ssrc: 0,
        });
    }

    pub(super) fn note_number(&mut self, now: Instant, header: &Header) {
        let epoch = self.config.epoch;
        let Some(answers) = &mut self.answers else {
            return;
        };
        let Some(value) = header.get_extension(answers.id) else {
            return;
        };
        if let Some(number) = value.first_chunk() {
            answers.media_ssrc = header.ssrc;
            let tick = (now - epoch).as_micros() as i64 / 250;
            answers.note(now, tick, u16::from_be_bytes(*number));
        }
    }

    /// Sends the feedback that is due.
    pub(super) fn answer(&mut self, now: Instant) {
        let sender_ssrc = self.rtcp_ssrc;
        let Some(answers) = &mut self.answers else {
            return;
        };
        if answers.due.is_none_or(|due| due > now) {
            return;
        }
        answers.due = None;
        let mut feedbacks = Vec::new();
        while let Some(feedback) = answers.take(sender_ssrc) {
            feedbacks.push(feedback);
        }
        for feedback in feedbacks {
            self.send_rtcp(&[Box::new(feedback)]);
        }
    }
}
