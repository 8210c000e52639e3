//! The config file, read, checked and compiled to a plan.
