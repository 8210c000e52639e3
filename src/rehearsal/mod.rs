//! Scripted providers that stand in for real ones, well behaved or not.
