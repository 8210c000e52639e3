//! What each wire API means: one folder or file per API, sans-IO.
