//! Bytes: HTTP/1.1 heads and framing, SSE, JSON; sans-IO and zero-copy.
