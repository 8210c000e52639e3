//! Sockets: the only room besides gateway that awaits.
