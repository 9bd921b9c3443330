//! What is asked of the database: the listener's targets, and who owns what.
//!
//! Only comparisons for equality, which the database answers from the indexes that it makes by
//! itself.

use firestore::gcloud_sdk::google::firestore::v1 as proto;
use proto::structured_query as parts;
use proto::structured_query::filter::FilterType;
use proto::value::ValueType;

use super::encoding::{self, Names};
use super::message::{Collection, Target};

/// Documents that one search gives: it is asked again until none is left.
const FOUND_MAX: i32 = 500;

/// The number of a target in the listener's stream.
pub(super) fn number(target: Target) -> i32 {
    match target {
        Target::Work => 1,
        Target::HungUp => 2,
        Target::Members => 3,
        Target::Nodes => 4,
    }
}

/// The target of this number.
pub(super) fn target(number_sent: i32) -> Option<Target> {
    Target::ALL
        .into_iter()
        .find(|target| number(*target) == number_sent)
}

/// What a listener for `node` asks for: one request for each target.
pub(super) fn listen(names: &Names, database: &str, node: &str) -> Vec<proto::ListenRequest> {
    let request = |target: Target| {
        let query = proto::target::QueryTarget {
            parent: names.documents().to_owned(),
            query_type: Some(proto::target::query_target::QueryType::StructuredQuery(
                watched(names, target, node),
            )),
        };
        let target = proto::Target {
            target_id: number(target),
            target_type: Some(proto::target::TargetType::Query(query)),
            ..proto::Target::default()
        };
        proto::ListenRequest {
            database: database.to_owned(),
            target_change: Some(proto::listen_request::TargetChange::AddTarget(target)),
            ..proto::ListenRequest::default()
        }
    };
    Target::ALL.into_iter().map(request).collect()
}

/// A search for documents whose `owner` is `node`.
pub(super) fn owned_by(
    names: &Names,
    collection: Collection,
    node: &str,
) -> proto::RunQueryRequest {
    let query = proto::StructuredQuery {
        limit: Some(FOUND_MAX),
        ..select(names, collection, vec![("owner", encoding::text(node))])
    };
    proto::RunQueryRequest {
        parent: names.documents().to_owned(),
        query_type: Some(proto::run_query_request::QueryType::StructuredQuery(query)),
        ..proto::RunQueryRequest::default()
    }
}

/// How the count is called in the answer.
const COUNT: &str = "count";

/// A count of the documents in one of `node`'s targets.
pub(super) fn count(
    names: &Names,
    target: Target,
    node: &str,
) -> proto::RunAggregationQueryRequest {
    use proto::structured_aggregation_query as sum;
    let count = sum::Aggregation {
        alias: COUNT.to_owned(),
        operator: Some(sum::aggregation::Operator::Count(
            sum::aggregation::Count::default(),
        )),
    };
    let query = proto::StructuredAggregationQuery {
        aggregations: vec![count],
        query_type: Some(sum::QueryType::StructuredQuery(watched(
            names, target, node,
        ))),
    };
    proto::RunAggregationQueryRequest {
        parent: names.documents().to_owned(),
        query_type: Some(
            proto::run_aggregation_query_request::QueryType::StructuredAggregationQuery(query),
        ),
        ..proto::RunAggregationQueryRequest::default()
    }
}

/// The number that such a count gave.
pub(super) fn read_count(result: &proto::AggregationResult) -> Option<usize> {
    match result.aggregate_fields.get(COUNT)?.value_type {
        Some(ValueType::IntegerValue(count)) => usize::try_from(count).ok(),
        _ => None,
    }
}

fn watched(names: &Names, target: Target, node: &str) -> proto::StructuredQuery {
    let (collection, conditions) = match target {
        Target::Work => (
            Collection::Requests,
            vec![
                ("answer", encoding::text("")),
                ("abort", encoding::boolean(false)),
            ],
        ),
        Target::HungUp => (
            Collection::Requests,
            vec![
                ("owner", encoding::text(node)),
                ("abort", encoding::boolean(true)),
            ],
        ),
        Target::Members => (
            Collection::Requests,
            vec![
                ("owner", encoding::text(node)),
                ("kind", encoding::text("member")),
            ],
        ),
        Target::Nodes => (Collection::Nodes, vec![]),
    };
    select(names, collection, conditions)
}

/// Documents of a collection in which all of these fields have these values.
fn select(
    names: &Names,
    collection: Collection,
    conditions: Vec<(&str, proto::Value)>,
) -> proto::StructuredQuery {
    let from = parts::CollectionSelector {
        collection_id: names.collection(collection),
        all_descendants: false,
    };
    let equal = |(field, value): (&str, proto::Value)| parts::Filter {
        filter_type: Some(FilterType::FieldFilter(parts::FieldFilter {
            field: Some(parts::FieldReference {
                field_path: field.to_owned(),
            }),
            op: parts::field_filter::Operator::Equal.into(),
            value: Some(value),
        })),
    };
    let filters: Vec<parts::Filter> = conditions.into_iter().map(equal).collect();
    let all = parts::CompositeFilter {
        op: parts::composite_filter::Operator::And.into(),
        filters,
    };
    let filter = (!all.filters.is_empty()).then_some(parts::Filter {
        filter_type: Some(FilterType::CompositeFilter(all)),
    });
    proto::StructuredQuery {
        from: vec![from],
        r#where: filter,
        ..proto::StructuredQuery::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_number_of_its_own() {
        for known in Target::ALL {
            assert_eq!(target(number(known)), Some(known));
        }
        assert_eq!(target(0), None);
        let names = Names::new("d", "box");
        let numbers: std::collections::BTreeSet<i32> = Target::ALL.map(number).into();
        assert_eq!(numbers.len(), listen(&names, "db", "n1").len());
    }
}
