//! Every endpoint that is served, and what the gateway answers itself.
