//! muster-cluster-tests
