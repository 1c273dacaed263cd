//! muster-node
