"""A check on two nodes, and one whose failure must be noticed."""

import reframe as rfm
import reframe.utility.sanity as sn


@rfm.simple_test
class Ranks(rfm.RunOnlyRegressionTest):
    valid_systems = ["muster:main", "muster:squeue"]
    valid_prog_environs = ["builtin"]
    executable = "hostname"
    num_tasks = 2
    num_tasks_per_node = 1
    time_limit = "2m"

    @sanity_function
    def two_hosts(self):
        return sn.assert_eq(sn.count_uniq(sn.extractall(r"^(\S+)$", self.stdout, 1)), 2)


@rfm.simple_test
class AllNodes(rfm.RunOnlyRegressionTest):
    """As many nodes as are there: ReFrame asks for them."""

    valid_systems = ["muster:main"]
    valid_prog_environs = ["builtin"]
    executable = "hostname"
    num_tasks = 0
    num_tasks_per_node = 1
    time_limit = "2m"

    @sanity_function
    def every_host(self):
        return sn.assert_ge(sn.count(sn.extractall(r"^(\S+)$", self.stdout, 1)), 2)
