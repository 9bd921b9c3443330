//! How often one address may ask for something that costs: a token bucket for each.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Doors;
use super::reply::Sentence;
use crate::node::Node;

/// Addresses that are remembered, so that a flood from many cannot fill the memory: 1 MiB of them.
const CALLERS_MAX: usize = 16_384;
/// A full table is searched for idle callers this often, so that a flood cannot buy searches.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Everybody who asked lately.
pub(crate) struct Callers {
    per_s: f64,
    burst: f64,
    table: Mutex<Table>,
}

struct Table {
    buckets: HashMap<IpAddr, Bucket>,
    /// Shared by all who do not fit into the table.
    others: Option<Bucket>,
    swept_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Callers {
    /// Each address gets `per_s` requests a second, and `burst` at once.
    pub(crate) fn new(per_s: u32, burst: u32) -> Callers {
        Callers {
            per_s: f64::from(per_s),
            burst: f64::from(burst),
            table: Mutex::new(Table {
                buckets: HashMap::new(),
                others: None,
                swept_at: None,
            }),
        }
    }

    /// Takes one request of `from`'s; `false` when there is none left.
    pub(crate) fn take(&self, from: IpAddr, now: Instant) -> bool {
        let caller = caller_of(from);
        // A panic inside cannot leave the table inconsistent: it only counts.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket {
            tokens: self.burst,
            filled_at: now,
        };
        if table.buckets.len() >= CALLERS_MAX && !table.buckets.contains_key(&caller) {
            self.sweep(&mut table, now);
        }
        let fits = table.buckets.len() < CALLERS_MAX || table.buckets.contains_key(&caller);
        let bucket = if fits {
            table.buckets.entry(caller).or_insert(full)
        } else {
            table.others.get_or_insert(full)
        };
        bucket.tokens = self.tokens(bucket, now);
        bucket.filled_at = now;
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        granted
    }

    /// Forgets callers whose bucket is full again: they are as good as new.
    fn sweep(&self, table: &mut Table, now: Instant) {
        if table
            .swept_at
            .is_some_and(|at| now.saturating_duration_since(at) < SWEEP_EVERY)
        {
            return;
        }
        table.swept_at = Some(now);
        table
            .buckets
            .retain(|_, bucket| self.tokens(bucket, now) < self.burst);
    }

    fn tokens(&self, bucket: &Bucket, now: Instant) -> f64 {
        let idle = now.saturating_duration_since(bucket.filled_at);
        (bucket.tokens + idle.as_secs_f64() * self.per_s).min(self.burst)
    }
}

/// Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits, which is what one
/// customer gets.
fn caller_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// Turns away requests of an address that asks too often.
pub(crate) async fn limit<N: Node>(
    State(doors): State<Doors<N>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if doors
        .callers
        .take(from.ip(), tokio::time::Instant::now().into_std())
    {
        return next.run(request).await;
    }
    let per_s = doors.options.requests_per_s;
    let text = format!("too many requests from this address: at most {per_s} a second");
    Sentence::new(StatusCode::TOO_MANY_REQUESTS, text).into_response()
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "a start of time for the tests to count from"
    )]

    use super::*;

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let (callers, start) = (Callers::new(10, 3), Instant::now());
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert!(callers.take(from, start));
        }
        assert!(!callers.take(from, start));
        assert!(!callers.take(from, start + Duration::from_millis(90)));
        assert!(callers.take(from, start + Duration::from_millis(200)));
        assert!(
            callers.take("192.0.2.2".parse().unwrap(), start),
            "others are not affected"
        );
    }

    #[test]
    fn an_ipv6_network_is_one_caller_and_a_mapped_address_is_ipv4() {
        let (callers, start) = (Callers::new(1, 1), Instant::now());
        assert!(callers.take("2001:db8::1".parse().unwrap(), start));
        assert!(!callers.take("2001:db8::2".parse().unwrap(), start));
        assert!(callers.take("2001:db8:0:1::1".parse().unwrap(), start));
        assert!(callers.take("::ffff:192.0.2.1".parse().unwrap(), start));
        assert!(!callers.take("192.0.2.1".parse().unwrap(), start));
    }

    #[test]
    fn t_12_a_flood_of_addresses_shares_one_bucket_once_the_table_is_full() {
        let (callers, start) = (Callers::new(1, 2), Instant::now());
        for n in 0..u32::try_from(CALLERS_MAX).unwrap() {
            assert!(callers.take(IpAddr::V4(n.into()), start));
        }
        let late = |n: u32| IpAddr::V4((0xC000_0200 + n).into());
        assert!(callers.take(late(1), start) && callers.take(late(2), start));
        assert!(!callers.take(late(3), start), "the shared bucket is empty");
        assert!(
            callers.take(IpAddr::V4(5.into()), start),
            "who is in the table keeps its own"
        );
        // Everybody's bucket is full again: the table empties, and newcomers get their own.
        let later = start + Duration::from_secs(5);
        assert!(callers.take(late(4), later) && callers.take(late(4), later));
        assert!(callers.take(late(5), later));
    }
}
