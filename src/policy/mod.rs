//! Every decision, as pure functions of their inputs and a clock that is passed in.
