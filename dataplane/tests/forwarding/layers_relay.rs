//! Encodings that are heard on another worker: all of them cross, and each receiver there is sent one.

use dataplane::command::{Command, Preference, Quality};
use dataplane::id::{SenderId, TrackId};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;

use crate::layers::{Encoding, RIDS, by_rid, simulcast_track};
use crate::relay::{AWAY, HOME, Two};
use crate::world::*;

#[test]
fn a_receiver_on_another_worker_goes_where_it_prefers() {
    let mut two = Two::new();
    let mut publisher = Peer::connect(&mut two.home, 1);
    let track = Box::new(simulcast_track(by_rid()));
    two.home.command(Command::Publish {
        session: publisher.session,
        track: track.clone(),
    });
    two.home.command(Command::Export {
        track: TrackId(1),
        to: AWAY,
    });
    two.away.command(Command::Import { track, from: HOME });
    let mut far = two.subscribe(3, 1);
    let mut encodings: Vec<Encoding> = RIDS
        .iter()
        .enumerate()
        .map(|(index, rid)| Encoding::new(index, Some(rid)))
        .collect();
    let mut frames = 0;
    for (most, shown) in [
        (Quality::Best, 102),
        (Quality::Layer(0), 100),
        (Quality::Layer(1), 101),
        (Quality::Best, 102),
    ] {
        let preference = Preference { most, priority: 0 };
        two.away.command(Command::Prefer {
            sender: SenderId(3),
            preference,
        });
        let mut seen = Vec::new();
        for _ in 0..120 {
            for encoding in &mut encodings {
                encoding.frame(&mut two.home, &mut publisher, frames);
            }
            frames += 1;
            two.ms(33);
            seen.extend(far.media(&mut two.away));
            for asked in publisher.control::<PictureLossIndication>(&mut two.home) {
                for encoding in &mut encodings {
                    encoding.keyframe |= encoding.ssrc == asked.media_ssrc;
                }
            }
        }
        let last = seen
            .last()
            .map(|packet| packet.payload[packet.payload.len() - 1]);
        assert_eq!(last, Some(shown), "{most:?}");
        let numbers: Vec<u16> = seen
            .iter()
            .map(|packet| packet.header.sequence_number)
            .collect();
        assert!(
            numbers
                .windows(2)
                .all(|pair| pair[1] == pair[0].wrapping_add(1))
        );
    }
}
