//! muster-topo
