"""The performance lab: perf/board runs it."""
