//! The documents by which pages and nodes meet in a Firestore database: their form, and nothing of
//! the database. `docs/firestore.md` describes them for people who write pages.
//!
//! ```text
//!  Fields ──► Request::read ──► kind, room, name (cheap: whose work is it?)
//!         ├─► read_offer ─────► sdp::Offer       (costs a parse: only who serves it reads it)
//!         ├─► read_camera ────► CameraRequest    (instead, for a camera)
//!         └─► read_muted, Say::read              (what a member does later)
//!  answer (SDP) ──► encode_answer ──► the text of `answer`
//! ```
//!
//! Pages write what they like: whatever a document holds, reading it gives a value or a sentence
//! that says what would be right.
//!
//! In reading order:

mod value;

mod request;

mod camera;
mod description;
mod member;

mod refusal;

#[doc(hidden)]
#[cfg(feature = "fuzz")]
pub mod fuzz;

pub use camera::{camera_mark, is_camera, read_camera};
pub use description::{OFFER_LEN_MAX, encode_answer, encode_offer, read_offer};
pub use member::{MAP_ENTRIES_MAX, Member, SAY_CHARS_MAX, Say, TRACK_ID_LEN_MAX, read_muted};
pub use refusal::BadRequest;
pub use request::{Kind, Request, field};
pub use value::{Fields, Value};
