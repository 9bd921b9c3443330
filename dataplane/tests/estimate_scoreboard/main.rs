//! How well the estimator does: cases of RFC 8867 and RFC 8869, and losses, in virtual time.
//!
//! Each case is a row of one snapshot: share of the bottleneck used in %, time that packets wait for it in ms
//! (median and 95th percentile), loss in %, and what matters in that case. Accept a change
//! with `INSTA_UPDATE=always`; what must hold whatever changes is asserted.

mod cases;
mod flow;
mod scene;
mod tcp;

use scene::Outcome;

#[test]
fn scoreboard() {
    let outcomes = cases::all();
    let rows: Vec<String> = outcomes.iter().map(Outcome::row).collect();
    let head = format!(
        "{:<34} {:>5} {:>5} {:>5} {:>6}",
        "case", "use %", "q50", "q95", "loss %"
    );
    let table = format!("{head}\n{}\n", rows.join("\n"));
    let broken: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| outcome.broken.iter().map(|line| format!("cases.rs:{line}")))
        .collect();
    assert!(
        broken.is_empty(),
        "{table}\nwhat must hold does not: {broken:?}"
    );
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("scoreboard", table);
    });
}
