//! muster-sim
