//! A whole world in one process and virtual time.
