//! The life of a request, the workers that carry it, start, reload and drain.
