//! muster-mpi
