//! Hostile and odd requests on the wire.
