//! stub
use super::link::*;
use crate::transmit::{Path, Transmit};
use std::{io, net::UdpSocket};
pub(super) struct UringSocket;
impl UringSocket {
    pub(super) fn open(_: UdpSocket) -> io::Result<Self> {
        Err(io::Error::other("the io_uring driver is not in this build"))
    }
}
pub(super) struct UringLink(LinkCounts);
impl UringLink {
    pub(super) fn new(_: UringSocket) -> io::Result<Self> {
        Ok(UringLink(LinkCounts::default()))
    }
}
impl Link for UringLink {
    fn receive(&mut self, _: usize, _: impl FnMut(Path, &mut [u8], usize)) {}
    fn slot(&mut self) -> Option<&mut [u8]> {
        None
    }
    fn send(&mut self, _: Transmit) {}
    fn flush(&mut self) {}
    fn settle(&mut self, _: bool) {}
    async fn ready(&mut self) {
        std::future::pending::<()>().await;
    }
    fn counts(&self) -> &LinkCounts {
        &self.0
    }
    fn offloads(&self) -> Offloads {
        Offloads {
            gso: false,
            gro: false,
        }
    }
}
