//! What the page says of cameras.

use signaling::camera::CameraState;

use super::Page;
use crate::camera::cameras::CameraTotals;

impl Page {
    pub(super) fn cameras(&mut self, totals: &CameraTotals) {
        self.family(
            "millrace_cameras",
            "gauge",
            "Cameras, by how it is with them.",
        );
        for (state, count) in CameraState::ALL.into_iter().zip(totals.states) {
            self.sample("millrace_cameras", &[("state", &state.label())], count);
        }
        let counters = [
            (
                "millrace_camera_packets_total",
                "Packets that came from cameras.",
                totals.packets,
            ),
            (
                "millrace_camera_packets_lost_total",
                "Packets of cameras that did not come.",
                totals.lost,
            ),
        ];
        for (name, help, count) in counters {
            self.family(name, "counter", help);
            self.sample(name, &[], count);
        }
    }
}
