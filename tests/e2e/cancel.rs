//! Clients that leave, clients that do not read, connections that come and go.
