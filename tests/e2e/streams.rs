//! Streams: nothing is changed on the way, and a cut one is visible every time.
