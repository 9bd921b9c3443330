//! Sockets, threads and clocks: the only module that does IO.
