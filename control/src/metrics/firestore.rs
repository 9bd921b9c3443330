//! The Firestore door's part of the page.

use super::Page;
use crate::firestore::desk::Counters;
use crate::firestore::share::{BOUNDS_US, Histogram};
use crate::firestore::shell::Standing;

/// A metric's name, its help, and its value.
type Row = (&'static str, &'static str, u64);

impl Page {
    pub(super) fn database(&mut self, standing: &Standing) {
        let up = (
            "up",
            "Whether pages that offer in the database are served.",
            u64::from(standing.ready.is_ok()),
        );
        self.singles("gauge", "", &[up]);
        self.singles("gauge", "", &gauges(&standing.counters));
        self.singles("counter", "_total", &totals(&standing.counters));
        self.share(&standing.share);
    }

    fn singles(&mut self, kind: &str, suffix: &str, rows: &[Row]) {
        for (name, help, value) in rows {
            let name = format!("millrace_firestore_{name}{suffix}");
            self.family(&name, kind, help);
            self.sample(&name, &[], *value);
        }
    }

    fn share(&mut self, share: &Histogram) {
        const NAME: &str = "millrace_firestore_answer_microseconds";
        self.family(
            NAME,
            "histogram",
            "From an offer's arrival here to its answer's write, the database aside.",
        );
        let bucket = format!("{NAME}_bucket");
        let mut below = 0;
        for (bound, count) in BOUNDS_US.iter().zip(share.counts) {
            below += count;
            self.sample(&bucket, &[("le", bound)], below);
        }
        let all = share.counts.iter().sum();
        self.sample(&bucket, &[("le", &"+Inf")], all);
        self.sample(&format!("{NAME}_sum"), &[], share.sum_us);
        self.sample(&format!("{NAME}_count"), &[], all);
    }
}

fn gauges(now: &Counters) -> [Row; 7] {
    [
        ("work", "Documents in the work set.", now.work as u64),
        (
            "undecided",
            "Offers that are not decided yet.",
            now.undecided as u64,
        ),
        (
            "sessions",
            "Sessions served for documents.",
            now.sessions as u64,
        ),
        ("rooms", "Rooms that documents made.", now.rooms as u64),
        (
            "writes_in_flight",
            "Writes on their way.",
            now.writes_in_flight as u64,
        ),
        (
            "writes_waiting",
            "Writes that wait for their turn.",
            now.writes_waiting as u64,
        ),
        (
            "nodes_live",
            "Nodes whose lease holds.",
            now.nodes_live as u64,
        ),
    ]
}

fn totals(all: &Counters) -> [Row; 13] {
    [
        ("offers", "Offers seen.", all.offers),
        (
            "left",
            "Offers left to other nodes, since undecided ones take all memory that they may.",
            all.left,
        ),
        (
            "answered",
            "Answers that are in the database.",
            all.answered,
        ),
        ("refused", "Refusals that are in the database.", all.refused),
        (
            "claims_lost",
            "Answers that came too late.",
            all.claims_lost,
        ),
        (
            "hung_up",
            "Sessions ended because their page hung up.",
            all.hung_up,
        ),
        ("ended", "Sessions that ended by themselves.", all.ended),
        ("sweeps", "Dead nodes cleaned up after.", all.sweeps),
        (
            "swept",
            "Documents of dead nodes that were marked.",
            all.swept,
        ),
        ("writes", "Writes handed out.", all.writes),
        (
            "writes_failed",
            "Writes that reached nobody or were denied.",
            all.writes_failed,
        ),
        ("reads", "Reads and searches handed out.", all.reads),
        ("relistens", "Fresh listens asked for.", all.relistens),
    ]
}
