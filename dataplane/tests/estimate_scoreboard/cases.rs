//! The cases, and what must hold in each.

use std::time::Duration;

use dataplane::sim::network::{LinkSpec, LossBursts, Rng};

use crate::flow::{FlowSpec, Source};
use crate::scene::Change::{Latency, Pause, Rate, Resume};
use crate::scene::{Change, Outcome, Scene, play};

/// The path of RFC 8867 section 4: 50 ms each way, a queue of 300 ms, no loss.
fn path(bps: u64) -> LinkSpec {
    LinkSpec {
        latency: Duration::from_millis(50),
        jitter: Duration::from_millis(3),
        rate_bps: Some(bps),
        queue_bytes_max: (bps * 3 / 80) as usize,
        ..LinkSpec::default()
    }
}

fn starting(second: u64) -> FlowSpec {
    FlowSpec {
        starts: Duration::from_secs(second),
        ..FlowSpec::default()
    }
}

/// Every case in order.
pub(crate) fn all() -> Vec<Outcome> {
    let cases: [fn() -> Outcome; 21] = [
        steady,
        variable_capacity,
        variable_capacity_of_two,
        congested_feedback,
        three_flows,
        round_trips,
        long_tcp,
        short_tcps,
        pause_and_resume,
        wifi,
        cellular,
        random_loss_2,
        random_loss_10,
        random_loss_10_narrow,
        bursts_of_loss,
        route_change,
        sudden_drop,
        sudden_rise,
        layers_with_room,
        layers_in_a_narrow_path,
        layers_with_loss,
    ];
    cases.iter().map(|case| case()).collect()
}

fn steady() -> Outcome {
    let mut outcome = play(&Scene {
        name: "steady, 2 Mbit/s",
        link: path(2_000_000),
        flows: vec![FlowSpec::default()],
        seconds: 60,
        ..Scene::default()
    });
    let reached = outcome.reached(0, 0, 1.4e6);
    outcome.note = format!("1.4 Mbit/s after {reached:.1} s");
    outcome.must(outcome.utilisation > 0.75 && outcome.loss < 0.01);
    outcome.must(outcome.queue(0.95) < 150.0 && reached < 5.0);
    outcome
}

fn variable_capacity() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8867 5.1 variable capacity",
        link: path(1_000_000),
        flows: vec![FlowSpec::default()],
        changes: vec![
            (40_000, Rate(2_500_000)),
            (60_000, Rate(600_000)),
            (80_000, Rate(1_000_000)),
        ],
        seconds: 100,
        ..Scene::default()
    });
    let (rise, drained) = (outcome.reached(0, 40, 1.75e6), outcome.drained(60, 150.0));
    outcome.note = format!("rise {rise:.1} s, drop {drained:.1} s");
    outcome.must(outcome.utilisation > 0.65 && outcome.loss < 0.05);
    outcome.must(rise < 20.0 && drained < 5.0);
    outcome
}

fn variable_capacity_of_two() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8867 5.2 variable capacity of two",
        link: path(4_000_000),
        flows: vec![FlowSpec::default(), FlowSpec::default()],
        changes: vec![
            (25_000, Rate(2_000_000)),
            (50_000, Rate(3_500_000)),
            (75_000, Rate(1_000_000)),
            (100_000, Rate(2_000_000)),
        ],
        seconds: 125,
        ..Scene::default()
    });
    let fairness = outcome.fairness(5, 125);
    outcome.note = format!("fairness {fairness:.2}");
    outcome.must(outcome.utilisation > 0.65 && fairness > 0.85);
    outcome
}

fn congested_feedback() -> Outcome {
    let mut spec = FlowSpec::default();
    // What is left of the way back for feedback: it waits, and a part of it is lost.
    spec.feedback.rate_bps = Some(20_000);
    spec.feedback.queue_bytes_max = 1_000;
    spec.feedback.loss = 0.1;
    let mut outcome = play(&Scene {
        name: "8867 5.3 congested feedback",
        link: path(2_000_000),
        flows: vec![spec],
        changes: vec![
            (20_000, Rate(1_000_000)),
            (40_000, Rate(500_000)),
            (60_000, Rate(2_000_000)),
        ],
        seconds: 100,
        ..Scene::default()
    });
    outcome.must(outcome.utilisation > 0.5 && outcome.loss < 0.1);
    outcome
}

fn three_flows() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8867 5.4 three flows",
        link: path(3_500_000),
        flows: vec![starting(0), starting(20), starting(40)],
        seconds: 120,
        ..Scene::default()
    });
    let fairness = outcome.fairness(60, 120);
    outcome.note = format!("fairness {fairness:.2}");
    outcome.must(outcome.utilisation > 0.7 && fairness > 0.75);
    outcome
}

fn round_trips() -> Outcome {
    let flows = [5, 20, 45, 95, 145].map(|latency| {
        let mut spec = FlowSpec::default();
        spec.feedback.latency = Duration::from_millis(latency);
        spec
    });
    let mut outcome = play(&Scene {
        name: "8867 5.5 round trips",
        link: LinkSpec {
            latency: Duration::from_millis(5),
            ..path(4_000_000)
        },
        flows: flows.to_vec(),
        seconds: 120,
        ..Scene::default()
    });
    let fairness = outcome.fairness(30, 120);
    outcome.note = format!("fairness {fairness:.2}");
    outcome.must(outcome.utilisation > 0.7 && fairness > 0.6);
    outcome
}

fn long_tcp() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8867 5.6 long TCP",
        link: path(2_000_000),
        flows: vec![FlowSpec::default()],
        tcps: vec![(10_000, u64::MAX / 2)],
        seconds: 120,
        ..Scene::default()
    });
    let ours = outcome.rate(0, 30, 120) / 2e6;
    outcome.note = format!("ours {:.0} % of it", ours * 100.0);
    outcome.must(outcome.utilisation > 0.9 && ours > 0.05);
    outcome
}

fn short_tcps() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8867 5.7 short TCPs",
        link: path(2_000_000),
        flows: vec![FlowSpec::default()],
        // A page of 300 kB every eight seconds.
        tcps: (1..12).map(|page| (page * 8_000, 200)).collect(),
        seconds: 100,
        ..Scene::default()
    });
    let ours = outcome.rate(0, 8, 100) / 2e6;
    outcome.note = format!("ours {:.0} % of it", ours * 100.0);
    outcome.must(ours > 0.3);
    outcome
}

fn pause_and_resume() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8867 5.8 pause and resume",
        link: path(3_500_000),
        flows: vec![starting(0), starting(0), starting(0)],
        changes: vec![(40_000, Pause(0)), (60_000, Resume(0))],
        seconds: 100,
        ..Scene::default()
    });
    let resumed = outcome.reached(0, 60, 6e5);
    outcome.note = format!("600 kbit/s after {resumed:.1} s");
    outcome.must(outcome.utilisation > 0.7 && resumed < 15.0);
    outcome
}

/// A rate that changes every `every_ms` at random between two bounds.
fn wandering(every_ms: u64, seconds: u64, (low, high): (u64, u64)) -> Vec<(u64, Change)> {
    let mut rng = Rng::new(8_869);
    (1..seconds * 1_000 / every_ms)
        .map(|turn| (turn * every_ms, Rate(low + rng.below(high - low))))
        .collect()
}

fn wifi() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8869 Wi-Fi, 2 to 6 Mbit/s",
        link: LinkSpec {
            latency: Duration::from_millis(15),
            jitter: Duration::from_millis(12),
            loss: 0.002,
            ..path(4_000_000)
        },
        flows: vec![FlowSpec::default()],
        changes: wandering(50, 100, (2_000_000, 6_000_000)),
        seconds: 100,
        ..Scene::default()
    });
    outcome.must(outcome.utilisation > 0.4 && outcome.queue(0.95) < 250.0);
    outcome
}

fn cellular() -> Outcome {
    let mut outcome = play(&Scene {
        name: "8869 cellular, 0.5 to 3 Mbit/s",
        link: LinkSpec {
            latency: Duration::from_millis(40),
            jitter: Duration::from_millis(8),
            ..path(3_000_000)
        },
        flows: vec![FlowSpec::default()],
        changes: wandering(1_000, 100, (500_000, 3_000_000)),
        seconds: 100,
        ..Scene::default()
    });
    outcome.must(outcome.utilisation > 0.35 && outcome.loss < 0.05);
    outcome
}

fn losing(name: &'static str, bps: u64, loss: f64) -> Outcome {
    play(&Scene {
        name,
        link: LinkSpec { loss, ..path(bps) },
        flows: vec![FlowSpec {
            source: Source::Encoder(2_000_000),
            ..FlowSpec::default()
        }],
        seconds: 60,
        ..Scene::default()
    })
}

fn random_loss_2() -> Outcome {
    let mut outcome = losing("2 % random loss, 3 Mbit/s", 3_000_000, 0.02);
    outcome.must(outcome.rate(0, 10, 60) > 1.4e6);
    outcome
}

fn random_loss_10() -> Outcome {
    let mut outcome = losing("10 % random loss, 3 Mbit/s", 3_000_000, 0.1);
    outcome.must(outcome.rate(0, 20, 60) > 7e5);
    outcome
}

fn random_loss_10_narrow() -> Outcome {
    let mut outcome = losing("10 % random loss, 1 Mbit/s", 1_000_000, 0.1);
    outcome.must(outcome.rate(0, 20, 60) > 4e5 && outcome.queue(0.95) < 250.0);
    outcome
}

fn bursts_of_loss() -> Outcome {
    let mut outcome = play(&Scene {
        name: "Gilbert loss, 3 % in bursts of 5",
        link: LinkSpec {
            bursts: Some(LossBursts {
                begins: 0.006,
                ends: 0.2,
                loss: 1.0,
            }),
            ..path(3_000_000)
        },
        flows: vec![FlowSpec {
            source: Source::Encoder(2_000_000),
            ..FlowSpec::default()
        }],
        seconds: 60,
        ..Scene::default()
    });
    outcome.must(outcome.rate(0, 10, 60) > 1e6);
    outcome
}

fn route_change() -> Outcome {
    let mut outcome = play(&Scene {
        name: "delay 30 to 130 ms and back",
        link: LinkSpec {
            latency: Duration::from_millis(30),
            ..path(2_000_000)
        },
        flows: vec![FlowSpec::default()],
        changes: vec![(30_000, Latency(130)), (60_000, Latency(30))],
        seconds: 90,
        ..Scene::default()
    });
    let back = outcome.reached(0, 31, 1.4e6);
    outcome.note = format!("1.4 Mbit/s again after {back:.1} s");
    outcome.must(outcome.utilisation > 0.65 && back < 15.0);
    outcome
}

fn sudden_drop() -> Outcome {
    let mut outcome = play(&Scene {
        name: "3 Mbit/s to 500 kbit/s",
        link: path(3_000_000),
        flows: vec![FlowSpec::default()],
        changes: vec![(30_000, Rate(500_000))],
        seconds: 60,
        ..Scene::default()
    });
    let drained = outcome.drained(30, 150.0);
    let after = outcome.rate(0, 40, 60);
    outcome.note = format!(
        "drained after {drained:.1} s, then {:.0} kbit/s",
        after / 1e3
    );
    outcome.must(drained < 5.0 && after > 3e5);
    outcome
}

fn sudden_rise() -> Outcome {
    let mut outcome = play(&Scene {
        name: "500 kbit/s to 3 Mbit/s",
        link: path(500_000),
        flows: vec![FlowSpec::default()],
        changes: vec![(30_000, Rate(3_000_000))],
        seconds: 60,
        ..Scene::default()
    });
    let reached = outcome.reached(0, 30, 2e6);
    outcome.note = format!("2 Mbit/s after {reached:.1} s");
    outcome.must(reached < 25.0);
    outcome
}

fn layers(name: &'static str, bps: u64) -> Outcome {
    let mut outcome = play(&Scene {
        name,
        link: path(bps),
        flows: vec![FlowSpec {
            source: Source::Layers(vec![150_000, 500_000, 1_500_000]),
            ..FlowSpec::default()
        }],
        seconds: 90,
        ..Scene::default()
    });
    outcome.note = format!(
        "{:.0} kbit/s, estimate {} kbit/s",
        outcome.rate(0, 10, 90) / 1e3,
        outcome.target_bps / 1_000
    );
    outcome
}

fn layers_with_room() -> Outcome {
    let mut outcome = layers("layers to 1.5 Mbit/s, 10 Mbit/s", 10_000_000);
    outcome.must(outcome.rate(0, 10, 90) > 1.35e6);
    outcome.must(outcome.target_bps < 6_000_000);
    outcome
}

fn layers_in_a_narrow_path() -> Outcome {
    let mut outcome = layers("layers to 1.5 Mbit/s, 900 kbit/s", 900_000);
    outcome.must(outcome.rate(0, 10, 90) > 4.5e5 && outcome.queue(0.95) < 100.0);
    outcome.must(outcome.target_bps < 1_300_000);
    outcome
}

/// Twenty networks that lose every tenth packet, each at other moments: the row is the first's, the note is of
/// the worst. Nobody is left with the smallest picture because of what chance made of one of them.
fn layers_with_loss() -> Outcome {
    let mut outcomes: Vec<Outcome> = (0..20)
        .map(|network| {
            play(&Scene {
                name: "layers to 1.5 Mbit/s, 10 % loss",
                link: LinkSpec {
                    loss: 0.1,
                    ..path(5_000_000)
                },
                flows: vec![FlowSpec {
                    source: Source::Layers(vec![150_000, 500_000, 1_500_000]),
                    ..FlowSpec::default()
                }],
                seconds: 60,
                // A network and what comes back take two numbers.
                seed: network * 2,
                ..Scene::default()
            })
        })
        .collect();
    let rates = outcomes.iter().map(|outcome| outcome.rate(0, 5, 60));
    let least = rates.fold(f64::INFINITY, f64::min);
    let mut outcome = outcomes.swap_remove(0);
    outcome.note = format!("of twenty the least {:.0} kbit/s", least / 1e3);
    outcome.must(least > 6e5);
    outcome
}
