//! The estimator as a whole: what it survives, and what it costs. How well it does is in `tests/estimate_scoreboard`.
#![expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]

use super::*;
use crate::id::Ssrc;
use crate::wire::RtcpWriter;
use crate::wire::generator::Generator;

/// Gives the estimator feedback of the packets from `base` on.
fn tell(estimator: &mut Estimator, now: Instant, base: u16, ticks: &[Option<i64>]) -> Surprises {
    let mut buffer = [0; 1_400];
    let mut writer = RtcpWriter::new(&mut buffer);
    let told = writer.transport_feedback(Ssrc(1), Ssrc(2), 0, base, ticks);
    assert_eq!(told, ticks.len());
    let len = writer.len();
    let view = FeedbackView::parse(&buffer[..len]).unwrap();
    estimator.handle_feedback(now, &view)
}

/// Sends `bps` for so many seconds over a network that takes 20 ms and has room for all, answered
/// every 100 ms with ticks that `arrival` makes of the true ones.
fn run(
    estimator: &mut Estimator,
    start: Instant,
    (from_ms, to_ms): (u64, u64),
    bps: u64,
    arrival: impl Fn(i64) -> Option<i64>,
) -> Surprises {
    let mut sum = Surprises::default();
    let mut numbers: Vec<(u16, i64)> = Vec::new();
    let mut owed = 0;
    for ms in from_ms..to_ms {
        let now = start + Duration::from_millis(ms);
        owed += bps;
        while owed >= 1_000 * 8_000 {
            owed -= 1_000 * 8_000;
            let number = estimator.handle_sent(now, 1_000);
            numbers.push((number, (ms as i64 + 20) * 4));
        }
        if ms % 100 == 99 && !numbers.is_empty() {
            let ticks: Vec<Option<i64>> = numbers.iter().map(|(_, tick)| arrival(*tick)).collect();
            let surprises = tell(estimator, now, numbers[0].0, &ticks);
            sum.unknown += surprises.unknown;
            sum.repeated += surprises.repeated;
            numbers.clear();
        }
    }
    sum
}

#[test]
fn an_estimator_is_small() {
    assert!(
        size_of::<Estimator>() < 12 << 10,
        "{}",
        size_of::<Estimator>()
    );
}

#[test]
fn what_arrives_proves_that_there_is_room_and_a_small_stream_keeps_it() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start);
    assert_eq!(estimator.pacing_bps(), u64::MAX);
    run(&mut estimator, start, (0, 20_000), 2_000_000, Some);
    let estimate = estimator.target_bps();
    assert!((1_700_000..3_100_000).contains(&estimate), "{estimate}");
    run(&mut estimator, start, (20_000, 80_000), 200_000, Some);
    assert!(estimator.is_limited());
    assert_eq!(estimator.target_bps(), estimate, "neither more nor less");
    assert!(estimator.rtt().unwrap() < Duration::from_millis(200));
}

#[test]
fn t_27_feedback_of_what_was_never_sent_changes_nothing() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start);
    let ticks = [Some(5); 100];
    let surprises = tell(&mut estimator, start, 40_000, &ticks);
    assert_eq!(surprises.unknown, 100);
    assert!(!estimator.is_settled());
    estimator.handle_sent(start, 1_000);
    let at = start + Duration::from_millis(50);
    assert_eq!(
        tell(&mut estimator, at, 0, &[Some(5)]),
        Surprises::default()
    );
    let again = tell(&mut estimator, at, 0, &[Some(90), Some(91)]);
    assert_eq!((again.repeated, again.unknown), (1, 1));
}

#[test]
fn t_27_a_receiver_that_claims_ten_gigabits_gets_what_it_was_sent_and_a_half() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start);
    run(&mut estimator, start, (0, 30_000), 1_000_000, |tick| {
        Some(tick / 1_000)
    });
    assert!(estimator.target_bps() < 1_700_000);
    let mut estimator = Estimator::new(start);
    run(&mut estimator, start, (0, 30_000), 1_000_000, |_| Some(77));
    assert!(estimator.target_bps() < 3_500_000);
}

#[test]
fn t_27_times_that_wrap_are_one_clock() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start);
    // The 24 bits of 64 ms end in the middle.
    let before = (1 << 24) * 256 - 40_000;
    run(&mut estimator, start, (0, 30_000), 1_000_000, |tick| {
        Some(before + tick)
    });
    assert!((900_000..1_600_000).contains(&estimator.target_bps()));
    assert_eq!(estimator.trend.usage(), Usage::Normal);
}

#[test]
fn t_27_any_feedback_leaves_the_estimate_within_its_bounds() {
    let start = Instant::now();
    let mut random = Generator::new(23);
    for _ in 0..40 {
        let mut estimator = Estimator::new(start);
        let mut now = start;
        for _ in 0..400 {
            now += Duration::from_millis(random.below(200) as u64);
            for _ in 0..random.below(30) {
                if let Some(probe) = estimator.poll_probe(now) {
                    estimator.handle_probe_sent(now, 1_200, probe.cluster);
                }
                estimator.handle_sent(now, random.below(1_400));
            }
            let count = 1 + random.below(40) as u16;
            let mut raw = vec![0x8F, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
            raw.extend((random.u16() % 512).to_be_bytes());
            raw.extend(count.to_be_bytes());
            raw.extend(random.u32().to_be_bytes());
            raw.extend((0..200).map(|_| random.u8()));
            if let Ok(view) = FeedbackView::parse(&raw) {
                estimator.handle_feedback(now, &view);
            }
            estimator.handle_timeout(now);
            let bounds = ESTIMATE_BPS_MIN..=ESTIMATE_BPS_MAX;
            assert!(bounds.contains(&estimator.target_bps()));
            assert!((0.0..=1.0).contains(&estimator.loss()));
        }
    }
}

#[test]
fn silence_halves_the_estimate_until_it_is_the_least_and_only_if_something_was_sent() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start);
    run(&mut estimator, start, (0, 10_000), 1_000_000, Some);
    let before = estimator.target_bps();
    assert_eq!(estimator.poll_timeout(), None, "nothing is unanswered");
    let mut now = start + Duration::from_secs(60);
    estimator.handle_sent(now, 1_000);
    assert_eq!(estimator.poll_timeout(), Some(now + Duration::from_secs(1)));
    for _ in 0..3 {
        now = estimator.poll_timeout().unwrap();
        estimator.handle_timeout(now);
    }
    let halved = before / 8;
    assert!(estimator.target_bps().abs_diff(halved) < 2);
    for _ in 0..20 {
        now = estimator.poll_timeout().unwrap();
        estimator.handle_timeout(now);
    }
    assert_eq!(estimator.target_bps(), ESTIMATE_BPS_MIN);
}

#[test]
fn a_receiver_that_only_knows_remb_is_believed() {
    let start = Instant::now();
    let mut estimator = Estimator::new(start);
    assert_eq!(estimator.target_bps(), ESTIMATE_START_BPS);
    estimator.handle_remb(1_500_000);
    assert_eq!(estimator.target_bps(), 1_500_000);
    estimator.handle_remb(u64::MAX);
    assert_eq!(estimator.target_bps(), ESTIMATE_BPS_MAX);
    run(&mut estimator, start, (0, 10_000), 2_000_000, Some);
    estimator.handle_remb(900_000);
    assert_eq!(estimator.target_bps(), 900_000, "a bound for others");
}

#[test]
fn another_path_that_is_longer_is_no_queue() {
    let start = Instant::now();
    let estimates = [false, true].map(|is_told| {
        let mut estimator = Estimator::new(start);
        run(&mut estimator, start, (0, 10_000), 1_000_000, Some);
        if is_told {
            estimator.handle_path_change(start + Duration::from_secs(10));
        }
        let before = estimator.target_bps();
        // 150 ms more.
        let later = |tick| Some(tick + 600);
        run(&mut estimator, start, (10_000, 12_000), 1_000_000, later);
        estimator.target_bps() >= before
    });
    assert_eq!(estimates, [false, true]);
}
