//! Cameras between doors, rooms and a lane that only listens.

use signaling::camera::{CameraRequest, CameraState};

use super::*;
use crate::camera::cameras::Placed;
use crate::camera::description;
use crate::camera::order::{Order, Trust};
use crate::camera::stream::{CameraCodec, Stream};

/// A node, and what its lane was told.
fn node_with_lane() -> (Millrace, Arc<Mutex<Vec<Order>>>) {
    let node = node();
    let told = Arc::new(Mutex::new(Vec::new()));
    let line = Arc::clone(&told);
    node.open_lane(move |order| line.lock().unwrap().push(order));
    (node, told)
}

fn request(room: &str, name: &str) -> CameraRequest {
    let text = format!(
        r#"{{"room":"{room}","name":"{name}","mode":"always","url":"rtsp://ann:s3cret@192.0.2.7/live"}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn listed(room: &str, name: &str) -> Placed {
    description::placed(request(room, name), Trust::Operator).unwrap()
}

fn described() -> LaneEvent {
    let codec = CameraCodec::H264 {
        profile_level_id: [0x42, 0xe0, 0x1f],
    };
    LaneEvent::Described {
        video: vec![Some(Stream {
            codec,
            clock_rate: 90_000,
            resolution: None,
        })],
        audio: None,
        remarks: vec![],
    }
}

#[tokio::test]
async fn a_camera_that_is_asked_for_is_described_published_pulled_and_removed() {
    let (node, told) = node_with_lane();
    let view = node.add_camera(request("gate", "Gate")).await.unwrap();
    let added = told.lock().unwrap().pop();
    let Some(Order::Add { camera, spec }) = added else {
        panic!("the lane hears of it: {added:?}");
    };
    assert_eq!(spec.trust, Trust::Request);
    node.decide(|state, now| {
        state.cameras.handle_lane_event(now, camera, described());
    });
    let wanted = told.lock().unwrap().pop();
    let Some(Order::Want { target, .. }) = wanted else {
        panic!("it is always pulled: {wanted:?}");
    };
    assert_eq!(target.video.len(), 1);
    let room = node.room(&"gate".parse().unwrap()).unwrap();
    assert_eq!(room.people[0].id, view.id);
    assert_eq!(room.people[0].tracks.len(), 1);
    assert!(
        node.metrics()
            .contains("millrace_sessions{client=\"camera\"} 1")
    );
    assert!(
        node.metrics()
            .contains("millrace_cameras{state=\"connecting\"} 1")
    );

    let full = node.add_camera(request("gate", "Yard")).await;
    assert!(matches!(full, Err(Refusal::NodeFull(_))), "{full:?}");
    assert!(node.close_room(&"gate".parse().unwrap()));
    let removed = told.lock().unwrap().pop();
    assert_eq!(removed, Some(Order::Remove { camera }));
    assert!(node.cameras().is_empty() && !node.remove_camera(&view.id));
}

#[tokio::test]
async fn cameras_of_the_list_come_and_go_with_it_and_others_stay() {
    let (node, told) = node_with_lane();
    node.list_cameras(&[listed("gate", "Gate"), listed("gate", "One too many")]);
    let asked = node.add_camera(request("yard", "Yard")).await.unwrap();
    let gate = node.cameras()[0].clone();
    assert_eq!(gate.state, CameraState::Connecting);
    assert_eq!(
        node.cameras().len(),
        2,
        "the list's second found no place in its room"
    );
    told.lock().unwrap().clear();

    node.list_cameras(&[listed("gate", "Gate")]);
    assert_eq!(node.cameras()[0].id, gate.id, "it is still listed");
    assert!(told.lock().unwrap().is_empty());
    node.list_cameras(&[listed("gate", "Other")]);
    let names: Vec<String> = node
        .cameras()
        .iter()
        .map(|view| view.name.as_str().to_owned())
        .collect();
    assert_eq!(names, ["Yard", "Other"]);
    assert!(node.remove_camera(&asked.id));
}

#[tokio::test]
async fn a_camera_without_an_address_is_refused_and_counted() {
    let (node, _) = node_with_lane();
    let mut request = request("gate", "Gate");
    request.url = None;
    let refused = node.add_camera(request).await.unwrap_err();
    assert!(refused.to_string().contains("no `url`"), "{refused}");
    assert!(
        node.metrics()
            .contains("millrace_refusals_total{reason=\"bad_camera\"} 1")
    );
    assert!(node.rooms().is_empty());
}
