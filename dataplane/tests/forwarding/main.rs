//! What people notice: packets of a publisher at its subscribers, through the whole engine, with
//! the cryptography and the packets of other libraries at both ends.

mod attacks;
mod camera;
mod connectivity;
mod control;
mod data;
mod downlink;
mod feed;
mod group;
mod hold;
mod layers;
mod layers_relay;
mod loss;
mod media;
mod overload;
mod redundancy;
mod relay;
mod spatial;
mod speakers;
mod world;
