//! The documents by which pages and nodes meet in a Firestore database: their form, and nothing of
//! the database.
//!
//! In reading order:

mod value;

pub use value::{Fields, Value};
